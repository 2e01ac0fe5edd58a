"""The record of calls in real gateways: it agrees with the servers' journals, and survives crashes and full disks."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from tests.ports import free_port

from .conftest import RAD, Rad, rad, wait_until

TOML = """
[mcp.proxy]
enable = true
port = {port}

[[mcp.proxy.upstreams]]
name = "server"
transport = "http"
url = "%s"

[[mcp.proxy.plugins]]
name = "audit_log"
%s

[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
name = "no repetition"
tools = ["repeat"]
then = "deny"
reason = "repeat is closed"

[[mcp.proxy.plugins.rules]]
name = "the rest"
then = "allow"
"""
MODES = ["legacy", "2026-07-28"]
IDS = map("call{}".format, itertools.count())


def entries(running: Rad, kind: str = "call") -> list[dict[str, Any]]:
    """The entries of a gateway, without a half line at the end."""
    path = running.config.with_name("audit.jsonl")
    found = []
    for line in path.read_bytes().split(b"\n"):
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [one for one in found if one["type"] == kind]


@pytest.mark.parametrize("mode", MODES)
async def test_entries_agree_with_the_journal_of_the_server(gateway: Any, recorder: Any, mode: str) -> None:
    server = recorder("server")
    running = gateway(TOML % (server.url, 'payloads = ["record"]'))
    sent = [next(IDS) for _ in range(20)]
    async with Client(running.url, mode=mode, read_timeout_seconds=60) as client:
        await client.list_tools()
        await asyncio.gather(*(client.call_tool("record", {"call_id": one}) for one in sent))
        with pytest.raises(MCPError, match="repeat is closed"):
            await client.call_tool("repeat", {"text": "x", "times": 1})
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("missing", {})
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    calls = [one for one in entries(running) if one["method"] == "tools/call"]
    recorded = [one for one in calls if one["name"] == "record"]
    assert (
        sorted(one["payload"]["arguments"]["value"]["call_id"] for one in recorded)
        == sorted(server.begun())
        == sorted(sent)
    )
    assert {(one["outcome"], one["decision"], one["upstream"]) for one in recorded} == {("ok", "allow", "server")}
    assert {one["era"] for one in calls} == {"legacy" if mode == "legacy" else "modern"}
    refused, unknown = (one for one in calls if one["name"] != "record")
    assert (refused["decision"], refused["plugin"], refused["rule"]) == ("refuse", "security_policy", "no repetition")
    assert (refused["sent"], unknown["served"], unknown["sent"]) == (False, None, False)
    assert any(one["method"] == "tools/list" for one in entries(running))
    assert [len(entries(running, kind)) for kind in ("start", "stop")] == [1, 1]
    verified = running.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout
    assert running.run("backtest").returncode == 0, "the same rules decide the same"
    looser = running.config.with_name("looser.toml")
    looser.write_text(running.config.read_text().replace('tools = ["repeat"]', 'tools = ["other"]'))
    found = rad("backtest", "--json", "--config", str(looser))
    assert found.returncode == 1, found.stderr
    (different,) = json.loads(found.stdout)["differences"]
    assert (different["name"], different["was"]["rule"], different["now"]["rule"]) == (
        "repeat",
        "no repetition",
        "the rest",
    )


async def test_a_killed_gateway_loses_no_call_that_was_answered(gateway: Any, recorder: Any) -> None:
    server = recorder("server")
    toml = TOML % (server.url, 'payloads = ["record"]\nsync = "each"')
    running = gateway(toml)
    answered: list[str] = []

    async def call_until_it_ends() -> None:
        with contextlib.suppress(Exception):
            async with Client(running.url, mode="2026-07-28", read_timeout_seconds=10) as client:
                while True:
                    name = next(IDS)
                    if not (await client.call_tool("record", {"call_id": name})).is_error:
                        answered.append(name)

    calling = [asyncio.create_task(call_until_it_ends()) for _ in range(4)]
    while len(answered) < 40:
        await asyncio.sleep(0.02)
    running.process.kill()
    running.process.wait(60)
    await asyncio.wait(calling, timeout=60)
    recorded = [one["payload"]["arguments"]["value"]["call_id"] for one in entries(running) if one["name"] == "record"]
    assert set(answered) <= set(recorded) <= set(server.begun())
    again = subprocess.Popen(
        [str(RAD), "mcp", "proxy", "start", "--config", str(running.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(running.ready, what="the second gateway")
        async with Client(running.url, mode="legacy", read_timeout_seconds=60) as client:
            await client.call_tool("record", {"call_id": next(IDS)})
    finally:
        again.send_signal(signal.SIGTERM)
        again.wait(60)
    verified = running.run("audit", "verify")
    assert verified.returncode == 0, verified.stdout
    assert "did not stop cleanly" in verified.stdout


@pytest.mark.parametrize("on_failure", ["continue", "refuse"])
async def test_a_full_disk_is_shown_in_status(recorder: Any, tmp_path: Path, on_failure: str) -> None:
    """No file of the gateway may grow past 64 KiB: its log and the record of calls are full then."""
    server = recorder("server")
    config = tmp_path / "full" / ".radium" / "mcp-proxy.toml"
    config.parent.mkdir(parents=True)
    port = free_port()
    settings = f'on_failure = "{on_failure}"\npayloads = ["repeat", "record"]'
    toml = (TOML % (server.url, settings)).replace('then = "deny"\nreason = "repeat is closed"', 'then = "allow"')
    config.write_text(toml.replace("{port}", str(port)).replace("[[mcp", '[mcp.proxy.log]\nfile = "log"\n\n[[mcp', 1))
    limit = 64 * 1024
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            f'ulimit -f {limit // 512}; exec "$0" "$@"',
            str(RAD),
            "mcp",
            "proxy",
            "start",
            "--config",
            str(config),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    running = Rad(config, port, process, tmp_path / "none")  # type: ignore[arg-type]
    try:
        wait_until(running.ready, what="the gateway")
        errors: list[str] = []
        async with Client(running.url, mode="legacy", read_timeout_seconds=60) as client:
            for number in range(40):
                try:
                    await client.call_tool("repeat", {"text": f"{number} ", "times": 1500})
                except MCPError as error:
                    errors.append(error.error.message)
                await asyncio.sleep(0.1)

        def warnings() -> list[str]:
            return next(one["warnings"] for one in running.status()["plugins"] if one["name"] == "audit_log")

        await asyncio.to_thread(wait_until, lambda: bool(warnings()), what="the warning")
        assert "entries cannot be written" in warnings()[0]
        assert "warning: audit_log: entries cannot be written" in running.run("status").stdout
        if on_failure == "refuse":
            assert set(errors) == {"the audit log cannot be written, so calls are refused"}
        else:
            assert errors == []
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert config.with_name("audit.jsonl").stat().st_size <= limit
    assert running.run("audit", "verify").returncode == 0


async def test_two_gateways_need_two_files(gateway: Any, recorder: Any, tmp_path: Path) -> None:
    server = recorder("server")
    shared = f'file = "{tmp_path / "audit.jsonl"}"'
    gateway(TOML % (server.url, shared))
    second = gateway(TOML % (server.url, shared), wait=False)
    assert second.process.wait(60) != 0
    assert "another process writes to it; each gateway needs its own file" in second.log.read_text()
