"""The streams on which servers tell what changed."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import pytest

from gateway_core.upstream.notifications import pauses

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHANGING = {"tools": {"listChanged": True}, "resources": {"listChanged": False}, "prompts": {}}
TOOLS = "notifications/tools/list_changed"


def note(method: str = TOOLS, head: str = "") -> bytes:
    return f"{head}data: {json.dumps({'jsonrpc': '2.0', 'method': method, 'params': {}})}\n\n".encode()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_DELAY", 0.02)


async def told(link: Any, count: int) -> list[str]:
    async with asyncio.timeout(5):
        while len(link.notifications) < count:
            await asyncio.sleep(0.005)
    found: list[str] = link.notifications
    return found


async def test_a_modern_server_is_asked_for_what_it_announces(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM + note("notifications/subscriptions/acknowledged") + note())
        await seen.hang_up()

    server = await scripted(script, capabilities=CHANGING)
    link = await connect(server.url)
    assert await told(link, 1) == [TOOLS]
    seen = server.of("subscriptions/listen")[0]
    assert seen.message["params"]["notifications"] == {"toolsListChanged": True}
    assert seen.message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert seen.headers["mcp-method"] == "subscriptions/listen"


async def test_a_server_that_announces_nothing_is_not_listened_to(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        raise AssertionError

    for era in ("modern", "legacy"):
        server = await scripted(script, era=era, capabilities={"tools": {}})
        await connect(server.url)
        await asyncio.sleep(0.05)
        assert not server.of("subscriptions/listen")
        assert not server.of("GET")


async def test_a_modern_stream_that_ends_is_asked_for_again_and_counts_as_a_change(scripted: Any, connect: Any) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM + note("notifications/subscriptions/acknowledged"))
        if len(server.of("subscriptions/listen")) == 1:
            done = {"jsonrpc": "2.0", "id": seen.message["id"], "result": {"resultType": "complete"}}
            writer.write(f"data: {json.dumps(done)}\n\n".encode())
        await seen.hang_up()

    server = await scripted(script, capabilities=CHANGING)
    link = await connect(server.url)
    assert await told(link, 1) == [TOOLS]
    first, second = server.of("subscriptions/listen")
    assert first.message["id"] != second.message["id"]


async def test_a_legacy_listener_that_fails_ends_its_connection(
    scripted: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM + note())
        await seen.hang_up()

    def broken(parser: object, chunk: bytes) -> list[object]:
        raise ZeroDivisionError

    monkeypatch.setattr("gateway_core.upstream.transports.events.EventParser.feed", broken)
    server = await scripted(script, era="legacy", capabilities=CHANGING)
    link = await connect(server.url)
    async with asyncio.timeout(5):
        assert "failed to read" in await link.connection.wait_closed()


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_a_server_without_such_a_stream_is_asked_once(scripted: Any, connect: Any, status: int) -> None:
    async def script(seen: Any, writer: Any) -> None:
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    for era in ("modern", "legacy"):
        server = await scripted(script, era=era, capabilities=CHANGING)
        link = await connect(server.url)
        await server.until("subscriptions/listen" if era == "modern" else "GET")
        await asyncio.sleep(0.2)
        assert len(server.seen) == (2 if era == "modern" else 4)
        assert not link.connection.closed


async def test_a_legacy_stream_goes_on_after_its_last_event_and_not_before_retry(scripted: Any, connect: Any) -> None:
    came: list[tuple[float, str | None]] = []

    async def script(seen: Any, writer: Any) -> None:
        came.append((time.monotonic(), seen.headers.get("last-event-id")))
        writer.write(STREAM + (note(head="id: e1\nretry: 300\n") if len(came) == 1 else b""))
        if len(came) == 2:
            await seen.hang_up()
        writer.close()

    server = await scripted(script, era="legacy", capabilities=CHANGING)
    link = await connect(server.url)
    await server.until("GET", 2)
    assert [last_id for _, last_id in came] == [None, "e1"]
    assert came[1][0] - came[0][0] >= 0.3
    await asyncio.sleep(0.05)
    assert link.notifications == [TOOLS]  # what was missed is replayed by the server, nothing has to be assumed


@pytest.mark.parametrize("status", [401, 429, 503])
async def test_a_server_that_is_away_is_tried_again_with_growing_pauses(
    scripted: Any, connect: Any, status: int
) -> None:
    came: list[float] = []

    async def script(seen: Any, writer: Any) -> None:
        came.append(time.monotonic())
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    server = await scripted(script, capabilities=CHANGING)
    await connect(server.url)
    await server.until("subscriptions/listen", 4)
    pauses = [later - earlier for earlier, later in itertools.pairwise(came)]
    assert pauses[2] > pauses[0]


def legacy_answer(seen: Any) -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": {}})
    return f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("status", [200, 204, 302, 400, 401, 403, 404, 405, 406, 410, 429, 500, 501, 503])
async def test_whatever_a_server_without_a_stream_answers_its_session_goes_on(
    scripted: Any, connect: Any, status: int
) -> None:
    async def script(seen: Any, writer: Any) -> None:
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: "
        error = '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Session not found"}}'
        body = "" if status == 204 else error
        writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode() if seen.verb == "GET" else legacy_answer(seen))

    server = await scripted(script, era="legacy", session="s", capabilities={"resources": {"subscribe": True}})
    link = await connect(server.url)
    await server.until("GET")
    async with asyncio.timeout(5):
        assert await link.connection.watch(frozenset({"a://b"})) == {}  # nothing waits for the stream
    assert (await link.connection.request("tools/call", {"name": "t"})).error is None
    assert not link.connection.closed
    assert [seen.method for seen in server.seen if seen.verb == "POST"].count("ping") == 0


async def test_a_stream_whose_head_does_not_come_delays_no_subscription(
    scripted: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.transports.listen.HEAD_TIMEOUT", 0.05)

    async def script(seen: Any, writer: Any) -> None:
        if seen.verb == "GET":
            await seen.hang_up()
        else:
            writer.write(legacy_answer(seen))

    server = await scripted(script, era="legacy", session="s", capabilities={"resources": {"subscribe": True}})
    link = await connect(server.url)
    async with asyncio.timeout(5):
        assert await link.connection.watch(frozenset({"a://b"})) == {}


@pytest.mark.parametrize("known", [False, True])
async def test_a_stream_that_is_gone_later_ends_the_session_only_if_the_server_says_so(
    scripted: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr("gateway_core.upstream.notifications.pauses.FIRST_DELAY", 0.01)
    streams = iter([STREAM])

    async def script(seen: Any, writer: Any) -> None:
        gone = b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"
        if seen.verb == "GET":
            writer.write(next(streams, gone))
            writer.close()
        else:
            writer.write(legacy_answer(seen) if known else gone)

    server = await scripted(script, era="legacy", session="s")
    link = await connect(server.url)
    await server.until("ping")
    if known:
        assert (await link.connection.request("tools/call", {"name": "t"})).error is None
        assert not link.connection.closed
    else:
        async with asyncio.timeout(5):
            assert "session" in await link.connection.wait_closed()


async def test_closing_ends_the_stream(scripted: Any, connect: Any) -> None:
    ended = asyncio.Event()

    async def script(seen: Any, writer: Any) -> None:
        writer.write(STREAM)
        await seen.hang_up()
        ended.set()

    server = await scripted(script, capabilities=CHANGING)
    link = await connect(server.url)
    await server.until("subscriptions/listen")
    await link.connection.close()
    async with asyncio.timeout(2):
        await ended.wait()
