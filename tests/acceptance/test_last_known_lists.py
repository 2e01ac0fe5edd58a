"""Lists right after a start: complete before a server answers, marked as last known, and replaced once it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.acceptance.lazy_kit import Servers, again, status, until
from tests.generations.conftest import MODERN, Stand, names, text

pytestmark = pytest.mark.timeout(180)
MODES = pytest.mark.parametrize("mode", [MODERN, "legacy"])


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    return Servers(tmp_path / "servers")


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    made = Stand(tmp_path / "mcp-proxy.toml")
    made.lists = tmp_path / "mcp-proxy.lists"
    try:
        yield made
    finally:
        await made.gateway.stop()


@MODES
async def test_the_first_list_is_complete_before_a_server_answers(stand: Stand, servers: Servers, mode: str) -> None:
    tables = [servers.table("one"), servers.table("two")]
    await stand.start(*tables)
    for name in ("one", "two"):
        servers.put(name, "gate")
    await again(stand, *tables, wait=False)
    async with stand.client(mode) as client:
        assert await names(client) == {"one_pid", "one_wait", "two_pid", "two_wait"}
        one = status(stand, "one")
        assert (one["state"], one["lists"], one["tools"]) == ("connecting", "last known", 2)
        assert one["server"] == "one 1.0.0"
        servers.take("one", "gate")
        assert int(await text(client, "one_pid")) == servers.starts("one")[-1], "a call waits for its server"
        assert status(stand, "one")["lists"] == "current"
        assert status(stand, "two")["lists"] == "last known", "and not for others"
        servers.take("two", "gate")
        await until(lambda: status(stand, "two")["lists"] == "current")


@MODES
async def test_agents_hear_of_lists_that_differ_from_the_last_known_ones(
    stand: Stand, servers: Servers, mode: str
) -> None:
    heard = asyncio.Event()

    async def on_message(message: Any) -> None:
        if "ToolListChanged" in type(message).__name__:
            heard.set()

    await stand.start(servers.table("one"))
    servers.put("one", "gate")
    servers.put("one", "tools", "pid\nnew")
    await again(stand, servers.table("one"), wait=False)
    async with stand.client(mode, message_handler=on_message) as client:
        assert await names(client) == {"one_pid", "one_wait"}
        servers.take("one", "gate")
        if mode == "legacy":
            async with asyncio.timeout(60):
                await heard.wait()
        else:
            await until(lambda: status(stand, "one")["lists"] == "current")
        assert await names(client) == {"one_pid", "one_new"}


async def test_a_tool_that_only_the_new_version_has_is_found_once_the_server_answers(
    stand: Stand, servers: Servers
) -> None:
    await stand.start(servers.table("one"))
    servers.put("one", "gate")
    servers.put("one", "tools", "pid\nnew")
    servers.put("one", "version", "2.0.0")
    await again(stand, servers.table("one"), wait=False)
    async with stand.client() as client:
        called = asyncio.ensure_future(text(client, "one_new"))
        await until(lambda: len(servers.starts("one")) == 2)
        servers.take("one", "gate")
        assert int(await called) == servers.starts("one")[-1]


async def test_the_last_known_lists_of_a_server_that_fails_stay(stand: Stand, servers: Servers) -> None:
    await stand.start(servers.table("one"))
    servers.put("one", "broken")
    await again(stand, servers.table("one"))
    one = status(stand, "one")
    assert (one["state"], one["lists"], one["tools"]) == ("down", "last known", 2)
    async with stand.client() as client:
        assert await names(client) == {"one_pid", "one_wait"}


async def test_a_server_with_other_arguments_has_no_last_known_lists(stand: Stand, servers: Servers) -> None:
    await stand.start(servers.table("one"))
    servers.put("one", "broken")
    await again(stand, servers.table("one", env={"MODE": "other"}))
    one = status(stand, "one")
    assert (one["state"], one["lists"], one["tools"]) == ("down", "none", 0)


async def test_a_reload_keeps_the_lists_of_a_server_that_is_used_in_another_way(
    stand: Stand, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.generations.reloads.FIRST_CONTACT", 0.2)
    await stand.start(servers.table("one"), servers.table("gone"))
    servers.put("one", "gate")
    await stand.reload(servers.table("one", timeout=9.0))
    async with stand.client() as client:
        assert await names(client) == {"one_pid", "one_wait"}
    assert status(stand, "one")["lists"] == "last known"
    servers.take("one", "gate")
    await until(lambda: status(stand, "one")["lists"] == "current")
    await stand.settled()
    await until(lambda: stand.lists is not None and [it.name for it in stand.lists.iterdir()] == ["one.json"])


async def test_a_command_that_runs_without_the_gateway_reads_no_last_known_lists(
    stand: Stand, servers: Servers, tmp_path: Path
) -> None:
    await stand.start(servers.table("one"))
    servers.put("one", "broken")
    stand.lists = None
    await again(stand, servers.table("one"))
    assert status(stand, "one")["lists"] == "none"


async def test_each_agent_gets_its_own_lists_once_the_server_is_reached(stand: Stand, servers: Servers) -> None:
    """The server marks its lists as private, as the SDK's servers do. Nothing tells the agents apart, so they share."""
    await stand.start(servers.table("one"))
    servers.put("one", "gate")
    await again(stand, servers.table("one"), wait=False)
    (upstream,) = stand.gateway.pool.upstreams
    async with Client(f"{stand.gateway.address}/mcp", mode=MODERN) as client:
        assert await names(client) == {"one_pid", "one_wait"}
        assert not stand.gateway.catalog.snapshot.private
        servers.take("one", "gate")
        await until(lambda: bool(stand.gateway.catalog.snapshot.private))
        assert await names(client) == {"one_pid", "one_wait"}
    assert upstream.fetched is not None
    assert not upstream.fetched.last_known
