"""Which answers to a probe count as a sign of life, on every transport."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway_core.api import Principal, UpstreamState
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream import watch as watch_module
from gateway_core.upstream.requests import Request
from gateway_core.upstream.upstream import Upstream
from tests.upstream.conftest import Seen, StartScripted, http, result
from tests.upstream.watch_kit import SERVERS, Journal, stdio, until, watching

TOOLS = {"tools": [{"name": "hello", "inputSchema": {"type": "object"}}], "ttlMs": 10**8, "cacheScope": "public"}


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three checks take less than a second."""
    monkeypatch.setattr(watch_module, "DOUBT_INTERVAL", 0.05)
    monkeypatch.setattr(watch_module, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_FIRST", 0.1)
    monkeypatch.setattr("gateway_core.upstream.liveness.PING_TIMEOUT", 0.3)


async def call(upstream: Upstream, session: str | None = None) -> bool:
    """Call the tool; returns whether the answer was a result."""
    agent = Agent(Principal("a"), "legacy", "2025-11-25", session_id=session)
    reply = await upstream.request(Exchange(agent, "tools/call"), Request("tools/call", {"name": "hello"}))
    return reply.error is None


STATUSES = [
    200,
    202,
    204,
    301,
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    408,
    410,
    415,
    418,
    421,
    429,
    500,
    501,
    502,
    503,
    504,
]


@pytest.mark.parametrize(
    ("how", "era"),
    [
        (how, era)
        for how in (*STATUSES, "silence", "reset", "web page", "error")
        for era in ("legacy", "modern")
        if (how, era) != (410, "legacy")  # says that the session is gone
    ],
)
async def test_over_http_a_probe_may_be_answered_with_anything_while_lists_are(
    scripted: StartScripted, how: Any, era: str
) -> None:
    probe = "ping" if era == "legacy" else "server/discover"
    served = 0

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.method == "tools/list":
            writer.write(http(200, json.dumps(result(seen, {"resultType": "complete", **TOOLS}))))
        elif seen.method == "tools/call":
            writer.write(http(200, json.dumps(result(seen, {"resultType": "complete", "content": []}))))
        elif seen.method == "ping" or seen.message.get("params") is not None:
            await answer(seen, writer)
        else:
            writer.write(http(405))

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if how == "silence":
            await seen.hang_up()
        elif how == "reset":
            writer.transport.abort()
        elif how == "web page":
            writer.write(http(200, "<html>", "text/html"))
        elif how == "error":
            error = {"jsonrpc": "2.0", "id": seen.message["id"], "error": {"code": -32603, "message": "no"}}
            writer.write(http(200, json.dumps(error)))
        else:
            writer.write(http(how, "no", "text/plain"))

    server = await scripted(script, era=era, capabilities={"tools": {}})
    negotiate = server._negotiation

    def once(seen: Seen) -> bytes | None:
        """Answer the era's probe once: later ones are checks."""
        nonlocal served
        if seen.method == "server/discover" and era == "modern":
            served += 1
            return negotiate(seen) if served == 1 else None
        return negotiate(seen)

    server._negotiation = once  # type: ignore[method-assign]
    config = UpstreamConfig(name="h", transport="http", url=server.url, health_check_interval=0.1)
    upstream = Upstream(config, ProxyConfig(), 0)
    states: list[UpstreamState] = []
    async with watching(upstream, on_change=lambda: states.append(upstream.facts.state)):
        await until(lambda: len(server.of(probe)) + len(server.of("tools/list")) > 9)
        assert await call(upstream)
        assert upstream.facts.state is UpstreamState.HEALTHY
    assert set(states) == {UpstreamState.HEALTHY}


@pytest.mark.parametrize("how", ["silence", 404])
async def test_a_probe_without_an_answer_costs_no_agent_its_session(scripted: StartScripted, how: Any) -> None:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.method == "tools/list":
            writer.write(http(200, json.dumps(result(seen, TOOLS))))
        elif seen.method == "tools/call":
            writer.write(http(200, json.dumps(result(seen))))
        elif seen.method == "ping" and how == "silence":
            await seen.hang_up()
        else:
            writer.write(http(404 if seen.method == "ping" else 405))

    server = await scripted(script, era="legacy", session="one", capabilities={"tools": {}})
    config = UpstreamConfig(name="h", transport="http", url=server.url, health_check_interval=0.1)
    upstream = Upstream(config, ProxyConfig(), 0)
    async with watching(upstream) as monitor:
        await monitor.wait_first_attempts(20)
        if how == 404:  # ends a session; after two, the server is not pinged any more
            await until(lambda: len(server.of("ping")) == 2)
            await until(lambda: upstream.facts.state is UpstreamState.HEALTHY and upstream.reachable)
        assert await call(upstream, "s")
        (connection,) = upstream.connections.sessions.connections()
        lists = len(server.of("tools/list"))
        await until(lambda: len(server.of("tools/list")) > lists + 4)
        assert upstream.connections.sessions.connections() == [connection]
        assert not connection.closed


async def test_a_server_that_dies_of_a_ping_is_asked_for_a_list_instead(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    arguments = (str(SERVERS / "dying.py"), "--log", str(journal.file), "--fatal", "ping")
    async with watching(stdio("d", *arguments, health_check_interval=0.3)):
        await until(lambda: len(journal.starts) == 3 and journal.starts[-1].count("tools/list") > 8)
        assert len(journal.times("ping")) == 2
        assert len(journal.starts) == 3


async def test_no_check_asks_for_a_list_that_ends_the_server(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    fatal = ("--fatal", "tools/list", "--fatal", "ping", "--capabilities", "tools,prompts")
    upstream = stdio("d", str(SERVERS / "dying.py"), "--log", str(journal.file), *fatal, health_check_interval=0.3)
    async with watching(upstream):
        await until(lambda: bool(journal.starts) and journal.starts[-1].count("prompts/list") > 8)
        assert "tools/list" not in journal.starts[-1]
        assert upstream.facts.state is UpstreamState.HEALTHY


async def test_a_server_that_dies_of_a_ping_and_has_no_list_lives_while_its_process_does(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    fatal = ("--fatal", "ping", "--capabilities", "logging")
    upstream = stdio("d", str(SERVERS / "dying.py"), "--log", str(journal.file), *fatal, health_check_interval=0.05)
    async with watching(upstream):
        await until(lambda: len(journal.starts) == 3 and upstream.facts.state is UpstreamState.HEALTHY)
        for _ in range(20):
            assert await call(upstream)
            await asyncio.sleep(0.05)
        assert len(journal.starts) == 3
