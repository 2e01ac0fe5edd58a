"""Twenty lazy servers, each started by npx: lists are complete before any of them runs, and only used ones run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client

from .conftest import HERE, Gateway, Launcher, Tools

SERVERS = {"everything": 5, "filesystem": 5, "memory": 5, "sequential-thinking": 5}
"""Official server -> how many upstreams it is behind."""
NPX = "lib/node_modules/npm/bin/npx-cli.js"


def npx(tools: Tools, kind: str, number: int, workspace: Path, home: Path, **settings: Any) -> dict[str, Any]:
    """The table of a lazy upstream that npx starts from the installed packages, without a look at a registry."""
    arguments = [str(workspace)] if kind == "filesystem" else []
    environment = {"PATH": f"{tools.node.parent}:{os.environ['PATH']}", "HOME": str(home)}
    if kind == "memory":
        environment["MEMORY_FILE_PATH"] = str(home / f"memory-{number}.jsonl")
    return {
        "name": f"{kind}-{number}",
        "transport": "stdio",
        "command": str(tools.node),
        "args": [str(tools.node.parents[1] / NPX), "--offline", "--no-install", f"mcp-server-{kind}", *arguments],
        "cwd": str(HERE),
        "env": environment,
        "start": "lazy",
        "start_timeout": 120.0,
        **settings,
    }


def descendants(pid: int) -> Iterator[str]:
    """The command lines of all processes below a process."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found = list(children.get(pid, []))
    for child in found:
        found += children.get(child, [])
        try:
            yield Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def servers_of(gateway: Gateway) -> list[str]:
    """The kinds of the official servers that run below a gateway."""
    lines = list(descendants(gateway.process.pid))
    return sorted(kind for line in lines for kind in SERVERS if f".bin/mcp-server-{kind}" in line)


def idle(gateway: Gateway, count: int) -> bool:
    time.sleep(1.0)  # each look is a process
    states = [upstream["state"] for upstream in gateway.rad("status")["upstreams"]]
    return states == ["idle"] * count and not servers_of(gateway)


@pytest.mark.timeout(800)
async def test_lists_of_twenty_lazy_servers_are_complete_at_once_and_only_used_ones_run(
    launcher: Launcher, tools: Tools, workspace: Path, tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    upstreams = [
        npx(tools, kind, number, workspace, tmp_path, idle_stop=60.0)
        for kind, count in SERVERS.items()
        for number in range(count)
    ]
    port = launcher.free_port()
    config = launcher.write({"port": port, "upstreams": upstreams})
    learning = launcher.start(config, port, ready="/healthz")
    wait_for(lambda: idle(learning, len(upstreams)), "all lists are known", 300.0)
    expected = {tool["name"] for tool in learning.rad("tools")["tools"]}
    learning.process.terminate()
    learning.process.wait(60)

    gateway = launcher.start(config, port)
    async with Client(gateway.url) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
        assert listed == expected
        assert len(listed) > 100
        assert servers_of(gateway) == [], "no server runs for a list"
        assert {one["lists"] for one in gateway.rad("status")["upstreams"]} == {"last known"}

        result: Any = await client.call_tool("everything-3:echo", {"message": "hello"})
        assert "hello" in result.content[0].text
        result = await client.call_tool("filesystem-0:list_directory", {"path": str(workspace)})
        assert "hello.txt" in result.content[0].text
        assert servers_of(gateway) == ["everything", "filesystem"]
        states = {one["name"]: one["state"] for one in gateway.rad("status")["upstreams"]}
        assert {name for name, state in states.items() if state == "healthy"} == {"everything-3", "filesystem-0"}
        wait_for(lambda: idle(gateway, len(upstreams)), "unused servers stop", 200.0)
        result = await client.call_tool("everything-3:echo", {"message": "again"})
        assert "again" in result.content[0].text
        assert servers_of(gateway) == ["everything"]
