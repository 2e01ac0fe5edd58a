"""Servers on stdio that run only while they are used: when they start and stop, and that no call fails for it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from gateway_core.inline.driver import in_task
from gateway_core.upstream import connection_manager
from gateway_core.upstream.life import idleness
from tests.acceptance.lazy_kit import Servers, again, status, until
from tests.generations.conftest import MODERN, Stand, names, text

pytestmark = pytest.mark.timeout(180)
LEGACY = Path(__file__).parents[1] / "upstream" / "servers" / "odd.py"
LAZY: dict[str, Any] = {"start": "lazy", "health_check_interval": 0.2}


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    return Servers(tmp_path / "servers")


@pytest.fixture
async def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stand]:
    monkeypatch.setattr(idleness, "FOR_LISTS", 0.3)
    made = Stand(tmp_path / "mcp-proxy.toml")
    made.lists = tmp_path / "mcp-proxy.lists"
    try:
        yield made
    finally:
        await made.gateway.stop()


def idle(stand: Stand, servers: Servers, name: str) -> bool:
    """Whether a server is idle, and its process has ended."""
    return status(stand, name)["state"] == "idle" and not servers.running(name)


async def learned(stand: Stand, servers: Servers, *tables: dict[str, Any]) -> None:
    """Start a gateway, and wait until each of its lazy servers has shown its lists and is idle."""
    await stand.start(*tables)
    await until(lambda: all(idle(stand, servers, table["name"]) for table in tables))


async def test_a_lazy_server_without_last_known_lists_starts_once_for_them(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY))
    one = status(stand, "one")
    assert (one["lists"], one["tools"], one["last_error"], one["warnings"]) == ("last known", 2, None, [])
    assert len(servers.starts("one")) == 1
    async with stand.client() as client:
        assert await names(client) == {"one_pid", "one_wait"}
    assert len(servers.starts("one")) == 1


@pytest.mark.parametrize("mode", [MODERN, "legacy"])
async def test_a_lazy_server_starts_with_its_first_call_and_only_once(
    stand: Stand, servers: Servers, mode: str
) -> None:
    tables = [servers.table("one", **LAZY), servers.table("two", **LAZY)]
    await learned(stand, servers, *tables)
    await again(stand, *tables)
    assert [status(stand, name)["state"] for name in ("one", "two")] == ["idle", "idle"]
    assert stand.gateway.ready
    async with stand.client(mode) as client:
        assert await names(client) == {"one_pid", "one_wait", "two_pid", "two_wait"}
        assert not servers.running("one")
        assert not servers.running("two")
        pids = await asyncio.gather(*(text(client, "one_pid") for _ in range(10)))
        assert {int(pid) for pid in pids} == {servers.starts("one")[-1]}
        assert (len(servers.starts("one")), len(servers.starts("two"))) == (2, 1)
        one = status(stand, "one")
        assert (one["state"], one["calls"], one["errors"]) == ("healthy", 10, 0)
        assert not servers.running("two")


async def test_a_call_that_begins_to_wait_while_the_server_comes_up_goes_on(
    stand: Stand, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await learned(stand, servers, servers.table("one", **LAZY))
    await again(stand, servers.table("one", **LAZY))
    waiting = 0

    async def late() -> None:
        nonlocal waiting
        waiting += 1
        await in_task()
        if waiting == 2:
            await until(lambda: status(stand, "one")["state"] == "healthy")

    monkeypatch.setattr(connection_manager, "in_task", late)
    async with stand.client() as client:
        pids = await asyncio.gather(*(text(client, "one_pid") for _ in range(2)))
    assert {int(pid) for pid in pids} == {servers.starts("one")[-1]}
    assert waiting >= 2


async def test_an_unused_server_stops_and_starts_again_with_the_next_call(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY, idle_stop=1.0))
    async with stand.client() as client:
        first = await text(client, "one_pid")
        await until(lambda: idle(stand, servers, "one"))
        assert stand.gateway.ready
        assert await names(client) == {"one_pid", "one_wait"}
        assert not servers.running("one"), "neither lists nor health checks start it"
        assert await text(client, "one_pid") != first
    assert status(stand, "one")["errors"] == 0


async def test_an_eager_server_stops_only_with_idle_stop(stand: Stand, servers: Servers) -> None:
    tables = [servers.table("one", idle_stop=0.5, health_check_interval=0.2), servers.table("two")]
    await stand.start(*tables)
    assert len(servers.starts("one")) == 1
    await until(lambda: idle(stand, servers, "one"))
    assert servers.running("two")
    async with stand.client() as client:
        assert int(await text(client, "one_pid")) == servers.starts("one")[-1]


async def test_a_call_in_flight_keeps_its_server_running(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY, idle_stop=0.5))
    async with stand.client() as client:
        assert await text(client, "one_wait", seconds=2.0) == "waited"
    assert len(servers.starts("one")) == 2


async def test_no_call_fails_while_a_server_stops(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY, idle_stop=0.2))
    async with stand.client() as client:
        for pause in (0.0, 0.15, 0.18, 0.19, 0.2, 0.21, 0.22, 0.25, 0.3):
            await asyncio.sleep(pause)
            assert int(await text(client, "one_pid")) == servers.starts("one")[-1]
    assert status(stand, "one")["errors"] == 0


async def test_the_time_of_the_start_does_not_count_against_a_call(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY, timeout=2.0))
    servers.put("one", "gate")
    async with stand.client() as client:
        called = asyncio.ensure_future(text(client, "one_pid"))
        await until(lambda: len(servers.starts("one")) == 2)
        await asyncio.sleep(3.0)
        servers.take("one", "gate")
        assert int(await called) == servers.starts("one")[-1]


async def test_a_server_that_cannot_start_fails_its_calls_with_the_reason_and_recovers(
    stand: Stand, servers: Servers
) -> None:
    await learned(stand, servers, servers.table("one", **LAZY))
    servers.put("one", "broken")
    async with stand.client() as client:
        with pytest.raises(MCPError, match=r"not executed.*one: down \(.*exited with status 1"):
            await text(client, "one_pid")
        await until(lambda: status(stand, "one")["state"] == "idle")
        assert "exited with status 1" in status(stand, "one")["last_error"]
        attempts = len(servers.starts("one"))
        await asyncio.sleep(1.5)
        assert len(servers.starts("one")) == attempts, "only a call tries again"
        servers.take("one", "broken")
        assert int(await text(client, "one_pid")) == servers.starts("one")[-1]
    assert status(stand, "one")["last_error"] is None


async def test_an_idle_replica_is_as_good_as_a_running_one(stand: Stand, servers: Servers) -> None:
    servers.put("one", "tools", "wait")
    lazy = [
        servers.table("one", **LAZY, priority=1),
        {**servers.table("one", **LAZY, priority=2), "name": "other"},
    ]
    await stand.start(*lazy)
    await until(lambda: all(status(stand, name)["state"] == "idle" for name in ("one", "other")))
    async with stand.client() as client:
        assert await text(client, "one_wait", seconds=0) == "waited"
    assert [status(stand, name)["state"] for name in ("one", "other")] == ["healthy", "idle"]


async def test_the_sessions_of_agents_keep_their_processes(stand: Stand, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    arguments = [str(LEGACY), "--log", str(journal)]
    table = {"name": "one", "transport": "stdio", "command": sys.executable, "args": arguments, "isolation": "agent"}

    def starts() -> int:
        return journal.read_text().count("started")

    await stand.start({**table, **LAZY, "idle_stop": 0.5})
    await until(lambda: status(stand, "one")["state"] == "idle")
    before = starts()
    async with stand.client("legacy") as client:
        await client.call_tool("block", {"seconds": 0})
        await until(lambda: starts() == before + 2)  # the server for all, and that of the session
        await asyncio.sleep(2.0)
        assert status(stand, "one")["state"] == "healthy"
        await client.call_tool("block", {"seconds": 0})
        assert starts() == before + 2
    await until(lambda: status(stand, "one")["state"] == "idle")


async def test_reconnect_starts_an_idle_server(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY))
    assert stand.gateway.reconnect("one")
    await until(lambda: status(stand, "one")["state"] == "healthy")
    assert len(servers.starts("one")) == 2


async def test_a_reload_makes_a_server_lazy_and_eager_again(stand: Stand, servers: Servers) -> None:
    await stand.start(servers.table("one"))
    async with stand.client() as client:
        assert await stand.reload(servers.table("one", **LAZY)) == [
            "upstream one: changed (health_check_interval 30 -> 0.2; start eager -> lazy)"
        ]
        assert status(stand, "one")["state"] == "idle", "its lists are known, so that it need not be started"
        await stand.settled()
        assert not servers.running("one")
        assert int(await text(client, "one_pid")) == servers.starts("one")[-1]
        await stand.reload(servers.table("one"))
        assert status(stand, "one")["state"] == "healthy"
        assert int(await text(client, "one_pid")) == servers.starts("one")[-1]


async def test_a_server_that_starts_while_the_gateway_stops_leaves_no_process(stand: Stand, servers: Servers) -> None:
    await learned(stand, servers, servers.table("one", **LAZY))
    servers.put("one", "gate")
    async with stand.client() as client:
        called = asyncio.ensure_future(client.call_tool("one_pid", {}))
        await until(lambda: len(servers.starts("one")) == 2)
        await stand.gateway.stop()
        with pytest.raises(MCPError, match="not executed"):
            await called
    assert not servers.running("one")


async def test_agents_hear_of_the_lists_of_a_server_that_changed_while_it_was_idle(
    stand: Stand, servers: Servers
) -> None:
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if "ToolListChanged" in type(message).__name__:
            heard.set()

    await learned(stand, servers, servers.table("one", **LAZY))
    servers.put("one", "tools", "pid\nnew")
    async with stand.client("legacy", message_handler=on_message) as client:
        assert await names(client) == {"one_pid", "one_wait"}
        await text(client, "one_pid")
        async with asyncio.timeout(30):
            await heard.wait()
        assert await names(client) == {"one_pid", "one_new"}
