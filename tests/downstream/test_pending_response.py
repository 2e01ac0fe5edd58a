"""Agents' connections while a response is pending: order, loss, streams."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httptools
import pytest

from gateway_core.downstream.pending_response import PendingStream
from gateway_core.errors import REJECTED, RpcError
from gateway_core.http1.head import HttpError

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": 1}}}


def modern(helpers: Any, name: str = "echo", request_id: Any = 7, **arguments: Any) -> bytes:
    headers, body = helpers.modern("tools/call", {"name": name, "arguments": arguments}, request_id)
    return post(body, headers)


def post(body: Any, headers: dict[str, str] | None = None, path: str = "/mcp") -> bytes:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(payload)),
        **(headers or {}),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + payload


class Responses:
    """Reads responses, one after the other, with a parser of somebody else's."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._parser = httptools.HttpResponseParser(self)
        self._done: list[tuple[int, dict[str, str], bytes]] = []
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._done.append((self._parser.get_status_code(), self._headers, self._body))

    async def next(self) -> tuple[int, dict[str, str], bytes]:
        while not self._done:
            async with asyncio.timeout(5):
                data = await self._reader.read(65536)
            assert data, "the connection was closed without a response"
            self._parser.feed_data(data)
        return self._done.pop(0)


async def dial(world: Any) -> tuple[Responses, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    return Responses(reader), writer


def connections(world: Any) -> list[Any]:
    """The open connections."""
    return list(world.server.http._open)


async def test_a_request_in_two_pieces_is_answered_wherever_it_is_cut(world: Any, helpers: Any) -> None:
    request = modern(helpers)
    for cut in range(1, len(request), 7):
        responses, writer = await dial(world)
        writer.write(request[:cut])
        await writer.drain()
        await asyncio.sleep(0.002)
        writer.write(request[cut:])
        status, _, body = await responses.next()
        assert (status, json.loads(body)["id"]) == (200, 7), cut
        writer.close()


async def test_requests_that_come_together_are_answered_in_order(world: Any, helpers: Any) -> None:
    responses, writer = await dial(world)
    writer.write(b"".join(modern(helpers, request_id=number, n=number) for number in range(20)))
    for number in range(20):
        assert json.loads((await responses.next())[2])["id"] == number
    writer.close()


async def test_a_request_that_comes_while_another_is_served_waits_for_its_turn(world: Any, helpers: Any) -> None:
    responses, writer = await dial(world)
    writer.write(modern(helpers, "nap", 1))
    await world.pipeline.started.wait()
    writer.write(modern(helpers, "echo", 2))
    await asyncio.sleep(0.05)
    assert len(world.pipeline.exchanges) == 1
    world.pipeline.released.set()
    assert [json.loads((await responses.next())[2])["id"] for _ in range(2)] == [1, 2]
    writer.close()


async def test_what_is_sent_ahead_is_read_only_up_to_a_bound(world: Any, helpers: Any) -> None:
    responses, writer = await dial(world)
    writer.write(modern(helpers, "nap", 0))
    await world.pipeline.started.wait()
    ahead = [modern(helpers, "echo", number, text="x" * 20_000) for number in range(1, 400)]
    sending = asyncio.create_task(_send(writer, ahead))
    await asyncio.sleep(0.2)
    assert not sending.done(), "8 MB were taken in ahead of their turn"
    world.pipeline.released.set()
    for number in range(400):
        assert json.loads((await responses.next())[2])["id"] == number
    await sending
    writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


async def test_an_agent_that_leaves_cancels_a_modern_call(world: Any, helpers: Any) -> None:
    _, writer = await dial(world)
    writer.write(modern(helpers, "sleep"))
    await world.pipeline.started.wait()
    writer.close()
    async with asyncio.timeout(5):
        await world.pipeline.cancelled.wait()
        await world.downstream.gate.wait_empty(5)
    assert world.downstream.gate.in_flight == 0


async def test_an_agent_that_leaves_at_once_leaves_nothing_behind(world: Any, helpers: Any) -> None:
    for _ in range(20):
        _, writer = await dial(world)
        writer.write(modern(helpers, "sleep"))
        writer.transport.abort()
    async with asyncio.timeout(5):
        while world.downstream.gate.in_flight or connections(world):
            await asyncio.sleep(0.01)


async def test_a_connection_serves_more_after_a_call_with_progress(world: Any, helpers: Any) -> None:
    responses, writer = await dial(world)
    headers, body = helpers.modern(
        "tools/call",
        {"name": "progress", "arguments": {"steps": 3}, "_meta": {"progressToken": "p"}},
        7,
    )
    writer.write(post(body, headers))
    status, found, stream = await responses.next()
    assert (status, found["Content-Type"], found["Transfer-Encoding"]) == (200, "text/event-stream", "chunked")
    assert stream.count(b"event: message") == 4
    writer.write(modern(helpers, request_id=8))
    assert json.loads((await responses.next())[2])["id"] == 8, "the connection is good for more"
    writer.close()


# Streams that an agent asks for with GET


def get(session: str, extra: dict[str, str] | None = None, accept: str = "text/event-stream") -> bytes:
    headers = {"Host": "127.0.0.1", "Accept": accept, "Mcp-Session-Id": session, **(extra or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET /mcp HTTP/1.1\r\n{lines}\r\n".encode()


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}},
}


async def initialized(responses: Responses, writer: asyncio.StreamWriter) -> str:
    writer.write(post(INITIALIZE))
    return (await responses.next())[1]["Mcp-Session-Id"]


def only_session(world: Any) -> Any:
    (session,) = world.downstream.sessions
    return session


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_request_that_comes_behind_a_stream_is_served_once_it_ends(world: Any, helpers: Any) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    session = only_session(world)
    writer.write(get(session_id) + modern(helpers))
    await until(lambda: session.record.streams == 1)
    session.mailbox.put(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', 1)
    session.mailbox.close()
    status, headers, body = await responses.next()
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert b"list_changed" in body
    status, _, body = await responses.next()
    assert (status, json.loads(body)["id"]) == (200, 7)
    assert session.record.streams == 0
    writer.close()


async def test_an_agent_that_leaves_its_stream_at_any_moment_leaves_no_trace(world: Any) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    session = only_session(world)
    for pause in (None, 0.0, 0.001, 0.02):
        _, other = await dial(world)
        other.write(get(session_id))
        if pause is not None:
            await other.drain()
            await asyncio.sleep(pause)
        other.transport.abort()
    await asyncio.sleep(0.05)
    await until(lambda: session.record.streams == 0 and len(connections(world)) <= 1)
    assert session.record.streams == 0, "each was counted out again"
    writer.close()


@pytest.mark.parametrize("end", [PendingStream.lost, PendingStream.doubt])
async def test_a_stream_that_ends_before_its_first_step_is_tidied_up(end: Callable[[PendingStream], None]) -> None:
    tidied = []

    async def writing() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            tidied.append("what was counted is counted out")

    streaming = PendingStream(writing())
    end(streaming)
    await asyncio.wait([streaming.running], timeout=2)
    assert streaming.running.cancelled()
    assert tidied


async def test_no_more_streams_than_allowed_however_fast_they_are_asked_for(world: Any) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    dialled = [await dial(world) for _ in range(12)]
    for _, one in dialled:
        one.write(get(session_id))
    session = only_session(world)
    await until(lambda: session.record.streams == 8)
    await asyncio.sleep(0.05)
    assert session.record.streams == 8
    for _, one in (*dialled, (responses, writer)):
        one.close()


@pytest.mark.parametrize(
    ("extra", "accept", "status"),
    [
        ({}, "application/json", 406),
        ({"Mcp-Session-Id": "nobody"}, "text/event-stream", 404),
        ({"Last-Event-ID": "nothing-1"}, "text/event-stream", 400),
        ({"MCP-Protocol-Version": "1999-01-01"}, "text/event-stream", 400),
        ({"MCP-Protocol-Version": "2026-07-28"}, "text/event-stream", 405),
        ({"Host": "evil.example"}, "text/event-stream", 403),
        ({"Origin": "https://evil.example"}, "text/event-stream", 403),
    ],
)
async def test_a_stream_is_refused(world: Any, extra: dict[str, str], accept: str, status: int) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    one, other = await dial(world)
    other.write(get(session_id, extra, accept))
    assert (await one.next())[0] == status
    other.close()
    writer.close()


REVISIONS = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"]
BOTH = "application/json, text/event-stream"


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence ends early."""
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 0.05)
    monkeypatch.setattr("gateway_core.downstream.streams.stream.KEEP_ALIVE", 0.05)


async def silent_call(world: Any, helpers: Any, revision: str, accept: str | None, name: str = "nap") -> Any:
    """Send a call that stays silent; returns the response as soon as its head is there."""
    headers, body = helpers.modern("tools/call", {"name": name, "arguments": {}}, 7)
    if revision != REVISIONS[-1]:
        headers = await world.initialize(version=revision)
        body = {**CALL, "params": {"name": name, "arguments": {}}}
    if accept is not None:
        headers = {**headers, "Accept": accept}
    return await world.http.post(world.url, json=body, headers=headers, skip_auto_headers=["Accept"])


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_silent_call_begins_its_stream_and_keeps_it_alive(world: Any, helpers: Any, revision: str) -> None:
    async with asyncio.timeout(10):
        response = await silent_call(world, helpers, revision, BOTH)
        assert (response.status, response.content_type) == (200, "text/event-stream")
        comments = 0
        while comments < 3:
            comments += (await response.content.readline()).startswith(b":")
        assert not world.pipeline.released.is_set()
        world.pipeline.released.set()
        rest = (await response.read()).decode().splitlines()
    (answer,) = [json.loads(line[6:]) for line in rest if line.startswith("data: ")]
    assert (answer["id"], answer["result"]["content"][0]["text"]) == (7, "woken")


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", "text/event-stream;q=0, */*", None])
async def test_a_silent_call_is_answered_in_one_piece_where_no_stream_is_named(
    world: Any, helpers: Any, revision: str, accept: str | None
) -> None:
    asking = asyncio.ensure_future(silent_call(world, helpers, revision, accept))
    await world.pipeline.started.wait()
    await asyncio.sleep(0.1)
    world.server.http.poll()
    await asyncio.sleep(0.05)
    assert not asking.done()
    world.pipeline.released.set()
    response = await asking
    assert response.content_type == "application/json"
    assert (await response.json())["result"]["content"][0]["text"] == "woken"


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_quick_call_stays_plain(world: Any, helpers: Any, revision: str) -> None:
    response = await silent_call(world, helpers, revision, BOTH, name="echo")
    assert response.content_type == "application/json"
    assert "result" in await response.json()


@pytest.mark.usefixtures("brisk")
async def test_an_error_after_silence_comes_over_the_stream(
    world: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(exchange: Any, params: Any) -> Any:
        await world.pipeline.released.wait()
        raise RpcError.of_gateway(REJECTED, "not today")

    monkeypatch.setattr(world.pipeline, "_tool", late)
    async with asyncio.timeout(10):
        response = await silent_call(world, helpers, REVISIONS[-1], BOTH)
        world.pipeline.released.set()
        body = (await response.read()).decode()
    assert response.status == 200
    assert json.loads(body.partition("data: ")[2])["error"]["code"] == REJECTED


@pytest.mark.usefixtures("brisk")
async def test_a_modern_agent_that_leaves_a_silent_stream_cancels_its_call(world: Any, helpers: Any) -> None:
    async with asyncio.timeout(10):
        response = await silent_call(world, helpers, REVISIONS[-1], BOTH, name="sleep")
        assert (await response.content.readline()).startswith(b":")
        response.close()
        await world.pipeline.cancelled.wait()


@pytest.mark.parametrize("failure", [HttpError(503, "nothing is known"), ZeroDivisionError()])
async def test_a_stream_whose_credentials_cannot_be_judged_ends_after_a_while(failure: Exception) -> None:
    asked: list[float] = []

    async def renew() -> float:
        asked.append(now)
        raise failure

    streaming = PendingStream(asyncio.sleep(3600))
    now = 100.0
    streaming.hold_until(now, renew)
    while not streaming.running.cancelled() and now < 300:
        streaming.poll(now)
        await asyncio.sleep(0.001)
        now += 1.0
    assert 155 < now < 175
    assert 10 < len(asked) < 15
