"""Servers that have lost a session, each with another message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from gateway_core.api import Outcome, UpstreamState
from gateway_core.errors import DeliveryError, RefusedUpstream
from gateway_core.upstream.base import NoMcpAnswer, SessionEnded, SessionGone
from gateway_core.upstream.network import host
from gateway_core.upstream.transports.client import HttpClient
from tests.upstream.inline_kit import ended

CALL = ("tools/call", {"name": "t", "arguments": {}})
Answer = Callable[[Any], bytes]


def http(status: int, body: str = "", kind: str = "application/json", more: str = "") -> bytes:
    data = body.encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(data)}\r\n\r\n".encode() + data


def rpc(message: str, *, code: int = -32001, own: bool = True, status: int = 200) -> Answer:
    """A JSON-RPC error with this HTTP status, with the id of the request or null."""

    def answer(seen: Any) -> bytes:
        request_id, error = seen.message.get("id") if own else None, {"code": code, "message": message}
        return http(status, json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}))

    return answer


def streamed(seen: Any) -> bytes:
    error = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "error": {"code": 1, "message": "Bad session"}})
    return http(200, f"event: message\ndata: {error}\n\n", "text/event-stream")


def result(seen: Any) -> bytes:
    tools = [{"name": "echo", "inputSchema": {"type": "object"}}]
    found = {"content": [], "tools": tools} if seen.method == "tools/list" else {"content": []}
    return http(200, json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": found}))


GONE: dict[str, Answer] = {
    "404": lambda seen: http(404),
    "404 page": lambda seen: http(404, "<h1>no</h1>", "text/html"),
    "404 null": rpc("Session not found", own=False, status=404),
    "404 own": rpc("Session not found", status=404),
    "404 own, other words": rpc("Not Found", code=-32603, status=404),
    "400 null": rpc("Bad Request: No valid session ID provided", code=-32000, own=False, status=400),
    "400 own": rpc("Invalid session ID", code=-32600, status=400),
    "400 text": lambda seen: http(400, "Unknown session", "text/plain"),
    "400 initialize": rpc("Bad Request: Server not initialized", code=-32000, status=400),
    "401 text": lambda seen: http(401, "Unauthorized: Session not found", "text/plain"),
    "401 JSON": lambda seen: http(401, '{"error": "session expired"}'),
    "401 challenge": lambda seen: http(401, more='WWW-Authenticate: Bearer error_description="no such session"\r\n'),
    "410": lambda seen: http(410),
    "422 text": lambda seen: http(422, "Unexpected message, expect initialize request", "text/plain"),
    "500 own": rpc("session terminated", code=-32603, status=500),
    "200 own": rpc("Session not found"),
    "200 initialize": rpc("Server not initialized", code=-32002),
    "200 stream": streamed,
}


def forgetting(answer: Answer, *, ping: bool = False, lists: bool = False) -> Any:
    """A script that answers in this way; `ping`, `lists`: such requests are answered in any session."""

    async def script(seen: Any, writer: Any) -> None:
        if seen.verb != "POST":
            writer.write(http(405))
        elif (ping and seen.method == "ping") or (lists and seen.method == "tools/list"):
            writer.write(result(seen))
        else:
            writer.write(answer(seen))

    return script


@pytest.mark.parametrize("what", GONE)
async def test_a_lost_session_ends(scripted: Any, connect: Any, what: str) -> None:
    link = await connect((await scripted(forgetting(GONE[what]), era="legacy", session="s-1")).url)
    if "own" in what or what.startswith("200") or what == "400 initialize":  # the server's words about this very call
        assert (await link.connection.request(*CALL)).error is not None
    else:
        # A 401 proves that the call was not executed.
        with pytest.raises(RefusedUpstream if what.startswith("401") else SessionEnded):
            await link.connection.request(*CALL)
    assert link.connection.closed
    assert "session" in await link.connection.wait_closed()


@pytest.mark.parametrize("what", [name for name in GONE if name != "400 null" and ("404" not in name or "own" in name)])
async def test_words_about_sessions_alone_prove_nothing(scripted: Any, connect: Any, what: str) -> None:
    """A tool may have sessions, too. The server still knows the session of the protocol."""
    server = await scripted(forgetting(GONE[what], ping=True, lists=True), era="legacy", session="s-1")
    link = await connect(server.url)
    for _ in range(2):
        if "own" in what or what.startswith("200") or what == "400 initialize":
            assert (await link.connection.request(*CALL)).error is not None
        else:
            with pytest.raises((RefusedUpstream, NoMcpAnswer), match=f"HTTP {what[:3]}"):
                await link.connection.request(*CALL)
    assert not link.connection.closed
    assert len(server.of("tools/call")) == 2


async def test_a_server_that_answers_a_ping_in_any_session_is_asked_for_a_list(scripted: Any, connect: Any) -> None:
    script = forgetting(rpc("Session not found"), ping=True)
    link = await connect((await scripted(script, era="legacy", session="s-1")).url)
    await link.connection.request(*CALL)
    assert link.connection.closed


async def test_a_lost_session_of_a_server_without_session_ids_ends(scripted: Any, connect: Any) -> None:
    link = await connect((await scripted(forgetting(rpc("Server not initialized")), era="legacy")).url)
    await link.connection.request(*CALL)
    assert link.connection.closed


async def test_the_words_of_a_modern_server_end_nothing(scripted: Any, connect: Any) -> None:
    server = await scripted(forgetting(rpc("Session not found")))
    link = await connect(server.url)
    assert (await link.connection.request(*CALL)).error.message == "Session not found"
    assert not link.connection.closed
    assert server.of("ping") == []


async def test_an_error_about_something_else_is_not_looked_into(scripted: Any, connect: Any) -> None:
    server = await scripted(forgetting(rpc("no such tool", code=-32602)), era="legacy", session="s-1")
    link = await connect(server.url)
    assert (await link.connection.request(*CALL)).error.message == "no such tool"
    assert server.of("ping") == server.of("tools/list") == []


async def test_the_body_of_a_failure_is_not_shown(scripted: Any, connect: Any) -> None:
    for status in (400, 401, 500):
        script = forgetting(lambda seen, status=status: http(status, "session: hunter2", "text/plain"))
        link = await connect((await scripted(script, era="legacy", session="s-1")).url)
        with pytest.raises(DeliveryError) as caught:
            await link.connection.request(*CALL)
        assert "hunter2" not in caught.value.reason


async def test_a_large_body_of_a_failure_is_not_read(scripted: Any, connect: Any) -> None:
    script = forgetting(lambda seen: http(400, "session " * 100_000, "text/plain"))
    link = await connect((await scripted(script, era="legacy", session="s-1")).url)
    with pytest.raises(NoMcpAnswer, match="HTTP 400"):
        await link.connection.request(*CALL)


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("what", GONE)
async def test_after_the_answer_the_next_call_works_and_no_call_was_repeated(
    scripted: Any, world: Any, what: str, era: str
) -> None:
    called: list[int] = []

    async def script(seen: Any, writer: Any) -> None:
        if seen.verb != "POST":
            writer.write(http(405))
            return
        if seen.method == "tools/call":
            called.append(seen.message["params"]["arguments"]["n"])
        if seen.headers.get("mcp-session-id") != server.session:
            writer.write(GONE[what](seen))
        else:
            writer.write(result(seen))

    server = await scripted(script, era="legacy", session="s-0", capabilities={"tools": {}})
    made = await world(None, server=server)
    for lost in range(3):  # more often in a row than the failures that eject an upstream
        assert (await ended(made.begin(era=era, n=2 * lost))).outcome is Outcome.OK
        server.session = f"s-{lost + 1}"
        assert (await ended(made.begin(era=era, n=2 * lost + 1))).outcome is not Outcome.OK
    assert (await ended(made.begin(era=era, n=6))).outcome is Outcome.OK
    assert called == list(range(7))
    assert made.upstream.facts.state is UpstreamState.HEALTHY


class Delayed:
    """Keeps each new connection from its request until `release` is set. The next request needs a new one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, http: HttpClient) -> None:
        while (idle := http.connections.take()) is not None:
            idle.close()
        self.release = asyncio.Event()
        self.waiting = 0
        dial = host.dial

        async def dial_late(*args: Any) -> Any:
            connection = await dial(*args)
            self.waiting += 1
            await self.release.wait()
            return connection

        monkeypatch.setattr(host, "dial", dial_late)

    async def until_waiting(self) -> None:
        async with asyncio.timeout(10):
            while not self.waiting:
                await asyncio.sleep(0.01)


async def test_a_call_that_waits_for_a_connection_when_its_session_ends_is_not_sent(
    scripted: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await scripted(forgetting(GONE["404"]), era="legacy", session="s-1")
    link = await connect(server.url)
    await server.until("GET")
    delayed = Delayed(monkeypatch, link.http)
    late = asyncio.ensure_future(link.connection.request(*CALL))
    await delayed.until_waiting()
    link.connection._session.end("the server has ended the session")
    delayed.release.set()
    with pytest.raises(SessionGone, match="the server has ended the session"):
        await late
    assert server.of("tools/call") == []


async def test_a_call_that_was_not_sent_when_its_session_ended_is_sent_in_the_next(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[str] = []
    lost = asyncio.Event()

    async def script(seen: Any, writer: Any) -> None:
        if not lost.is_set():
            lost.set()
            writer.write(http(404))
            return
        sessions.append(seen.message["params"]["arguments"]["call"])
        writer.write(result(seen))

    here = await world(script, era="legacy", session="s-1")
    first = here.begin(era="legacy", call="first")
    delayed = Delayed(monkeypatch, here.upstream.connections.http)
    second = here.begin(era="legacy", call="second")
    await delayed.until_waiting()
    assert (await ended(first)).outcome is Outcome.UNKNOWN
    delayed.release.set()
    assert (await ended(second)).outcome is Outcome.OK
    assert sessions == ["second"]
