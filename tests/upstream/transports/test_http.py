"""Streamable HTTP with servers written with the official SDK, in child processes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.base import SessionEnded
from gateway_core.upstream.requests import Reply

AGENT = Agent(Principal("tester"), "modern", "2026-07-28")

MODERN = ((), None)
LEGACY = (("--legacy-only",), None)
LEGACY_JSON = (("--legacy-only", "--json"), None)
STATELESS = (("--legacy-only", "--stateless"), None)
RESUMABLE = (("--resumable",), "legacy")
ALL = pytest.mark.parametrize("server", [MODERN, LEGACY, LEGACY_JSON, STATELESS, RESUMABLE], ids=str)


class Told:
    """A back-channel that remembers."""

    def __init__(self) -> None:
        self.progress: list[dict[str, Any]] = []

    def notify(self, method: str, params: bytes) -> None:
        self.progress.append(json.loads(params))

    async def ask(self, method: str, params: bytes) -> bytes:
        raise AssertionError


def text(reply: Reply) -> str:
    assert reply.error is None, reply.error
    found: str = json.loads(reply.result)["content"][0]["text"]
    return found


def tool(name: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    return "tools/call", {"name": name, "arguments": arguments}


@ALL
async def test_calls_are_answered(sdk_server: Any, connect: Any, server: Any) -> None:
    flags, known = server
    link = await connect(sdk_server(*flags), known)
    info = link.connection.info
    assert (info.name, info.version, info.instructions) == ("http-fixture", "1.2.3", "Add numbers.")
    assert info.era == ("modern" if server is MODERN else "legacy")
    assert link.connection.stateful is (info.era == "legacy" and server is not STATELESS)
    replies = await asyncio.gather(*[link.connection.request(*tool("add", a=n, b=1)) for n in range(20)])
    assert [text(reply) for reply in replies] == [str(n + 1) for n in range(20)]
    listed = await link.connection.request("tools/list", {})
    assert b'"inputSchema"' in listed.result
    read = await link.connection.request("resources/read", {"uri": "memo://greeting"})
    assert b"hello" in read.result
    missing = await link.connection.request("resources/read", {"uri": "memo://none"})
    assert missing.error is not None
    assert link.connection._session.unexpected.counts.total() == 0


@ALL
async def test_arguments_and_names_leave_as_they_came(sdk_server: Any, connect: Any, server: Any) -> None:
    flags, known = server
    link = await connect(sdk_server(*flags), known)
    params = {"name": "größe", "arguments": Raw(b'{ "text": "a\\u00e4\xf0\x9f\x98\x80" }')}
    assert text(await link.connection.request("tools/call", params)) == "3"
    raw_name = {"name": Raw('"größe"'.encode()), "arguments": {"text": "x" * 2_000_000}}
    assert text(await link.connection.request("tools/call", raw_name)) == "2000000"


async def test_progress_reaches_the_agent_that_asked_for_it(sdk_server: Any, connect: Any) -> None:
    for flags, known in (MODERN, LEGACY):
        link = await connect(sdk_server(*flags), known)
        told, other = Told(), Told()
        asking = Exchange(AGENT, "tools/call", told, progress_token=b'"mine"')
        silent = Exchange(AGENT, "tools/call", other)
        replies = await asyncio.gather(
            link.connection.request(*tool("steps", count=3, pause=0.02), exchange=asking),
            link.connection.request(*tool("steps", count=3, pause=0.02), exchange=silent),
        )
        assert [text(reply) for reply in replies] == ["done", "done"]
        assert [(note["progressToken"], note["progress"]) for note in told.progress] == [("mine", n) for n in (1, 2, 3)]
        assert other.progress == []
        assert asking.sent


async def test_cancelling_reaches_the_server_in_its_own_era(sdk_server: Any, connect: Any) -> None:
    for flags, known in (MODERN, LEGACY, LEGACY_JSON):
        link = await connect(sdk_server(*flags), known)
        label = f"cancelled {flags}"
        call = asyncio.create_task(link.connection.request(*tool("wait", seconds=30, label=label)))
        bystander = asyncio.create_task(link.connection.request(*tool("wait", seconds=0.6, label="short")))
        await asyncio.sleep(0.3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(2):
            while label not in json.loads(text(await link.connection.request(*tool("journal"))))["cancelled"]:
                await asyncio.sleep(0.02)
        assert text(await bystander) == "waited"


async def test_changed_lists_are_told(sdk_server: Any, connect: Any) -> None:
    for flags, known in (MODERN, LEGACY):
        link = await connect(sdk_server(*flags), known)
        async with asyncio.timeout(5):
            while (
                "notifications/tools/list_changed" not in link.notifications
            ):  # the stream may open a moment later than the connection
                await link.connection.request(*tool("change"))
                await asyncio.sleep(0.05)
        assert "notifications/tools/list_changed" in link.notifications


async def test_a_legacy_servers_own_requests_are_answered(sdk_server: Any, connect: Any) -> None:
    for flags in (("--legacy-only",), ("--legacy-only", "--json")):
        link = await connect(sdk_server(*flags))
        await asyncio.sleep(0.2)  # its requests go to the GET stream
        answer = text(await link.connection.request(*tool("ping_client")))
        assert answer.startswith("pinged, and roots gave MCPError")


async def test_an_answer_whose_stream_was_closed_on_purpose_is_fetched(sdk_server: Any, connect: Any) -> None:
    link = await connect(sdk_server("--resumable"), "legacy")
    assert text(await link.connection.request(*tool("drop_stream", label="fetched later"))) == "after all"
    assert json.loads(text(await link.connection.request(*tool("journal"))))["executed"].count("fetched later") == 1


async def test_closing_ends_the_servers_session(sdk_server: Any, connect: Any) -> None:
    url = sdk_server("--legacy-only")
    link, other = await connect(url), await connect(url)
    session = link.connection._session.id
    assert session != other.connection._session.id
    await link.connection.close()
    assert link.connection.closed
    assert await link.connection.wait_closed() == "closed"
    with pytest.raises(NotSent):
        await link.connection.request("ping", {})
    other.connection._session.id = session
    with pytest.raises(SessionEnded):
        await other.connection.request("ping", {})
    assert other.connection.closed
    assert "session" in await other.connection.wait_closed()
    await link.connection.close()


async def test_headers_mirror_the_body_and_bring_nothing_else(sdk_server: Any, connect: Any) -> None:
    link = await connect(sdk_server(), headers={"X-Api-Key": "k"})
    given = {"Mcp-Param-Region": "eu", "Authorization": "Bearer of-the-agent", "Cookie": "a=b"}
    seen = json.loads(text(await link.connection.request(*tool("seen_headers"), headers=given)))
    assert (seen["mcp-method"], seen["mcp-name"], seen["mcp-param-region"]) == ("tools/call", "seen_headers", "eu")
    assert seen["mcp-protocol-version"] == "2026-07-28"
    assert seen["x-api-key"] == "k"
    assert seen["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & seen.keys()


async def test_calls_share_connections(sdk_server: Any, connect: Any) -> None:
    for flags, known in (MODERN, LEGACY, LEGACY_JSON):
        link = await connect(sdk_server(*flags), known)
        for _ in range(30):
            await link.connection.request(*tool("add", a=1, b=1))
            await asyncio.sleep(0.01)  # the end of the last answer's stream arrives in its own time
        assert 1 <= len(link.http.connections._idle) <= 2


async def test_an_answer_larger_than_the_limit_is_cut(sdk_server: Any, connect: Any) -> None:
    for flags, known in (MODERN, LEGACY):
        link = await connect(sdk_server(*flags), known, limits=LimitsConfig(response_body=1_000))
        with pytest.raises(OutcomeUnknown, match="larger than 1000 bytes"):
            await link.connection.request("tools/list", {})
