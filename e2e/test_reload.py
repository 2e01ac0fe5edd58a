"""Reloads and restarts of a gateway, while the official clients of both languages and both eras call."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import tomli_w
from mcp.client.client import Client

RELOADS = 50
RESTARTS = 5
CLIENTS = 4
"""Agents of each language and era."""
BETWEEN = 100
"""Calls of each configuration that end before the next reload."""
ERAS = ("legacy", "modern")
MODES = {"legacy": "legacy", "modern": "2026-07-28"}


def settings(number: int, port: int, node: str, server: str, web: int) -> dict[str, Any]:
    """File `number`: the server `everything` stays, and everything else moves."""
    step = number % 5
    everything = {"name": "everything", "transport": "stdio", "command": node, "args": [server]}
    upstreams = [everything]
    if step in {1, 2}:
        more = {"X-Variant": str(step)}
        url = f"http://127.0.0.1:{web}/mcp"
        upstreams.append({"name": "web", "transport": "http", "url": url, "headers": more})
    names = ["routing_priority", "conflict_autoprefix", "security_redact"][:: -1 if step == 3 else 1]
    plugins: list[dict[str, Any]] = [{"name": name} for name in names]
    if step == 4:
        rules = [{"then": "deny", "tools": ["echo"]}, {"then": "allow"}]
        plugins.append({"name": "security_policy", "rules": rules})
    log = {"format": "json"}
    return {"port": port, "log": log, "timeout": 30.0 + number, "upstreams": upstreams, "plugins": plugins}


class Calls:
    """Calls as the gateway's log counts them while it grows."""

    def __init__(self, log: BinaryIO) -> None:
        self.log = log
        self.count: Counter[int] = Counter()
        """Calls by the generation in which they ended."""
        self._rest = b""

    async def of(self, generation: int) -> None:
        """Wait until `BETWEEN` calls of a generation have ended."""
        async with asyncio.timeout(200):
            while self.count[generation] < BETWEEN:
                *lines, self._rest = (self._rest + self.log.read()).split(b"\n")
                self.count.update(json.loads(line)["generation"] for line in lines if b'"tool":"get-sum"' in line)
                await asyncio.sleep(0.02)


def started(node: str, url: str, era: str, home: Path) -> subprocess.Popen[str]:
    """Agents on the TypeScript SDK, which call until their stdin is closed."""
    return subprocess.Popen(
        [node, "reload.mjs", url, era, str(CLIENTS)],
        cwd=Path(__file__).parent,
        env={"PATH": str(Path(node).parent), "HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def call_on(url: str, mode: str, over: asyncio.Event) -> int:
    done = 0
    async with Client(url, mode=mode, read_timeout_seconds=60) as client:
        while not over.is_set():
            result: Any = await client.call_tool("get-sum", {"a": 2, "b": 3})
            assert result.content[0].text == "The sum of 2 and 3 is 5."
            done += 1
    return done


@pytest.mark.timeout(600)
async def test_no_official_client_notices_fifty_reloads(launcher: Any, tools: Any, tmp_path: Path) -> None:
    port, web = launcher.free_port(), launcher.free_port()
    launcher.http_server("web", web)
    node, server = str(tools.node), tools.server("everything")

    def file(number: int) -> dict[str, Any]:
        return settings(number, port, node, server, web)

    gateway = launcher.start(launcher.write(file(0)), port)
    before = gateway.upstream("everything")
    agents = [started(node, gateway.url, era, tmp_path) for era in ERAS]
    over = asyncio.Event()
    calling = [asyncio.ensure_future(call_on(gateway.url, MODES[era], over)) for era in ERAS for _ in range(CLIENTS)]
    try:
        with (launcher.processes.folder / "gateway.log").open("rb") as log:
            calls = Calls(log)
            await calls.of(1)
            began = time.monotonic()
            for number in range(1, RELOADS + 1):
                gateway.config.write_text(tomli_w.dumps({"mcp": {"proxy": {"enable": True, **file(number)}}}))
                found = await asyncio.to_thread(gateway.rad, "reload")
                assert found["generation"] == number + 1, found
                await calls.of(number + 1)
            print(f"{(calls.count.total() - BETWEEN) / (time.monotonic() - began):.0f} calls a second")
    finally:
        over.set()
        ends = [await asyncio.to_thread(agent.communicate) for agent in agents]
    for out, _ in ends:
        told = json.loads(out)
        assert told["failures"] == []
        assert told["calls"] > RELOADS
    assert all(done > RELOADS for done in await asyncio.gather(*calling))
    assert gateway.upstream("everything")["calls"] > before["calls"]
    text = launcher.processes.log("gateway")
    lines = [json.loads(line) for line in text.splitlines() if '"tool":"get-sum"' in line]
    assert {line["outcome"] for line in lines} == {"ok"}
    assert {line["generation"] for line in lines} == set(range(1, RELOADS + 2))


async def called(gateway: Any) -> None:
    """Wait until agents call."""
    async with asyncio.timeout(120):
        while (await asyncio.to_thread(gateway.rad, "status"))["calls"] < 20:
            await asyncio.sleep(0.2)


async def restarted(gateway: Any) -> None:
    before = gateway.rad("status")["started"]
    done = await asyncio.to_thread(gateway.run, "restart")
    assert done.returncode == 0, done.stderr
    status = gateway.rad("status")
    assert status["started"] > before
    assert status["pid"] == gateway.process.pid


@pytest.mark.timeout(600)
async def test_official_clients_go_on_over_restarts(launcher: Any, tools: Any, tmp_path: Path) -> None:
    server = {"transport": "stdio", "command": str(tools.node), "args": [tools.server("everything")]}
    plugins = [{"name": "routing_priority"}, {"name": "conflict_autoprefix"}]
    settings = {"upstreams": [{"name": "everything", **server}], "plugins": plugins, "log": {"format": "json"}}
    gateway = launcher.gateway(settings, 1)
    agents = [started(str(tools.node), gateway.url, era, tmp_path) for era in ERAS]
    over = asyncio.Event()
    calling = [asyncio.ensure_future(call_on(gateway.url, MODES[era], over)) for era in ERAS for _ in range(CLIENTS)]
    try:
        for _ in range(RESTARTS):
            await called(gateway)
            await restarted(gateway)
        await called(gateway)
    finally:
        over.set()
        ends = [await asyncio.to_thread(agent.communicate) for agent in agents]
    for out, _ in ends:
        told = json.loads(out)
        assert told["failures"] == []
        assert told["calls"] > RESTARTS
    heard = json.loads(ends[0][0])["changed"]
    assert min(heard) > 0, "the standalone streams of legacy agents go on"
    assert all(done > RESTARTS for done in await asyncio.gather(*calling))
    text = launcher.processes.log("gateway")
    lines = [json.loads(line) for line in text.splitlines() if '"tool":"get-sum"' in line]
    assert {line["outcome"] for line in lines} == {"ok"}
