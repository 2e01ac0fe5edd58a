"""What operators do with upstreams of a real gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp import MCPError

from tests.control.endpoints.conftest import Controlled
from tests.generations.conftest import names, served, text

pytestmark = pytest.mark.timeout(180)
MODES = pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])


def states(stand: Controlled) -> dict[str, tuple[str, bool]]:
    return {one["name"]: (one["state"], one["drained"]) for one in stand.gateway.status()["upstreams"]}


@MODES
async def test_a_drained_upstream_ends_its_calls_and_gets_no_new_ones(stand: Controlled, mode: str) -> None:
    await stand.start(served("one"), served("two"))
    async with stand.client(mode) as client:
        pid = await text(client, "one_pid")
        waiting = asyncio.ensure_future(text(client, "one_wait", seconds=2))
        async with asyncio.timeout(30):
            while not stand.gateway.pool.upstreams[0].facts.in_flight:
                await asyncio.sleep(0.01)
        assert await stand.ask("POST", "upstreams/one/drain") == (200, {"upstream": "one", "drained": True})
        assert states(stand) == {"one": ("draining", True), "two": ("healthy", False)}
        with pytest.raises(MCPError, match=r"not executed.*one: draining .an operator keeps new calls from it"):
            await text(client, "one_pid")
        assert "one_pid" in await names(client)
        assert await text(client, "two_pid")
        assert await waiting == "waited"
        assert await stand.ask("POST", "upstreams/one/resume") == (200, {"upstream": "one", "drained": False})
        assert states(stand)["one"] == ("healthy", False)
        assert await text(client, "one_pid") == pid


async def test_new_calls_go_to_a_replica_that_is_not_drained(stand: Controlled) -> None:
    await stand.start(*(served("one", priority=number) | {"name": f"r{number}"} for number in (1, 2)))
    async with stand.client() as client:
        first = await text(client, "one_pid")
        await stand.ask("POST", "upstreams/r1/drain")
        second = await text(client, "one_pid")
        assert first != second
        await stand.ask("POST", "upstreams/r1/resume")
        assert await text(client, "one_pid") == first


async def test_an_upstream_stays_drained_when_it_reconnects_and_when_a_reload_replaces_it(stand: Controlled) -> None:
    await stand.start(served("one"), served("two"))
    await stand.ask("POST", "upstreams/one/drain")
    connects = stand.gateway.pool.upstreams[0].status.connects
    await stand.ask("POST", "upstreams/one/reconnect")
    async with asyncio.timeout(60):
        while stand.gateway.pool.upstreams[0].status.connects == connects:
            await asyncio.sleep(0.05)
    assert states(stand)["one"] == ("draining", True)
    await stand.reload(served("one", "more"), served("two"))
    assert states(stand)["one"] == ("draining", True)
    async with stand.client() as client:
        with pytest.raises(MCPError, match="an operator keeps new calls"):
            await text(client, "one_pid")
    await stand.ask("POST", "upstreams/one/resume")
    assert states(stand)["one"] == ("healthy", False)


async def test_a_drained_upstream_that_cannot_be_reached_says_that(stand: Controlled) -> None:
    await stand.start(served("one"), {"name": "gone", "transport": "stdio", "command": "/no/such/program"})
    await stand.ask("POST", "upstreams/gone/drain")
    assert states(stand)["gone"] == ("down", True)


async def test_an_upstream_is_disabled_and_enabled_in_the_file(stand: Controlled) -> None:
    await stand.start(served("one"), served("two"))
    status, found = await stand.ask("POST", "upstreams/one/disable")
    assert (status, found["changes"][0]["how"]) == (200, "disabled")
    assert states(stand)["one"] == ("disabled", False)
    assert "enabled = false" in stand.path.read_text()
    assert (await stand.ask("POST", "upstreams/one/drain"))[0] == 404
    status, found = await stand.ask("POST", "upstreams/one/enable")
    assert (status, found["changes"][0]["how"]) == (200, "enabled")
    assert "enabled = true" in stand.path.read_text()
    async with stand.client() as client:
        assert "one_pid" in await names(client)


@pytest.mark.parametrize("verb", ["drain", "resume", "disable", "enable", "reconnect"])
async def test_an_upstream_that_is_not_there_is_404(stand: Controlled, verb: str) -> None:
    await stand.start(served("one"))
    found: tuple[int, dict[str, Any]] = await stand.ask("POST", f"upstreams/none/{verb}")
    kind = "upstream" if verb in ("disable", "enable") else "enabled upstream"
    assert found == (404, {"error": f"there is no {kind} 'none'; `rad mcp proxy status` lists them"})
