"""The short way and the long way: which requests go where, and that agents see no difference."""

import asyncio
import gc
import json
import re
from typing import Any

import httptools
import pytest

from gateway_core.downstream import short_way
from gateway_core.downstream.head import REMEMBERED, HeadReader
from gateway_core.downstream.long_way import LongWay
from gateway_core.downstream.serving import Streaming
from gateway_core.downstream.short_way import AgentConnection
from gateway_core.hosts import HostGuard

CALL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "echo", "arguments": {"a": 1}}}
META = "io.modelcontextprotocol/"


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


def kinds(world: Any) -> list[type]:
    """The kinds of the connections that are open, without the one of the world's own client."""
    return [type(connection) for connection in world.server._app.connections._open]


async def test_a_usual_request_takes_the_short_way_and_anything_rare_the_long_one(world: Any, helpers: Any) -> None:
    if world.server._app.connections.short:
        responses, writer = await dial(world)
        writer.write(modern(helpers))
        assert (await responses.next())[0] == 200
        assert kinds(world) == [AgentConnection]
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await responses.next())[0] == 200
        assert kinds(world) == [LongWay]
        writer.write(modern(helpers))
        assert (await responses.next())[0] == 200
        writer.close()


@pytest.mark.parametrize(
    "rare",
    [
        {"Connection": "close"},
        {"Expect": "100-continue"},
        {"Content-Encoding": "gzip"},
        {"Upgrade": "h2c", "Connection": "upgrade"},
        {"Accept": "text/html"},
        {"Accept": "text/event-stream"},
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"Content-Type": "text/plain"},
        {"X-Long": "x" * 20_000},
        {f"X-{n}": "1" for n in range(120)},
    ],
    ids=lambda rare: next(iter(rare)),
)
def test_a_head_with_anything_rare_or_wrong_is_left_to_the_long_way(rare: dict[str, str]) -> None:
    reader = HeadReader(HostGuard("127.0.0.1"), 1000)
    head, _, _ = post(CALL, rare).partition(b"\r\n\r\n")
    assert reader.read(head + b"\r\n\r\n") is None
    usual, _, _ = post(CALL).partition(b"\r\n\r\n")
    assert reader.read(usual + b"\r\n\r\n") is not None


@pytest.mark.parametrize(
    "head",
    [
        b"POST /mcp HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1001\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: -2\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"X-Folded: a\r\n b\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"X-Nul: \0\r\n\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Mcp-Name: a\r\nMcp-Name: b\r\n\r\n",
        b"POST /other HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
        b"PUT /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_heads_that_are_wrong_or_of_something_else_are_left_to_the_long_way(head: bytes) -> None:
    assert HeadReader(HostGuard("127.0.0.1"), 1000).read(head) is None


def test_only_so_many_heads_are_remembered() -> None:
    reader = HeadReader(HostGuard("127.0.0.1"), 1000)
    for number in range(REMEMBERED + 50):
        head, _, _ = post(CALL, {"X-Number": str(number)}).partition(b"\r\n\r\n")
        assert reader.read(head + b"\r\n\r\n") is reader.read(head + b"\r\n\r\n")
    assert len(reader._known) == REMEMBERED


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


async def test_a_body_that_does_not_come_is_waited_for_as_long_either_way(
    world: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_way, "PATIENCE", 0.05)
    monkeypatch.setattr("gateway_core.downstream.intake.BODY_TIMEOUT", 0.2)
    responses, writer = await dial(world)
    writer.write(modern(helpers)[:-5])
    status, headers, _ = await responses.next()
    assert (status, headers["Connection"].lower()) == (408, "close")
    writer.close()


async def test_an_agent_that_leaves_cancels_a_modern_call(world: Any, helpers: Any) -> None:
    _, writer = await dial(world)
    writer.write(modern(helpers, "sleep"))
    await world.pipeline.started.wait()
    writer.close()
    async with asyncio.timeout(5):
        await world.pipeline.cancelled.wait()
        await world.services.gate.wait_empty(5)
    assert world.services.gate.in_flight == 0


async def test_an_agent_that_leaves_at_once_leaves_nothing_behind(world: Any, helpers: Any) -> None:
    for _ in range(20):
        _, writer = await dial(world)
        writer.write(modern(helpers, "sleep"))
        writer.transport.abort()
    async with asyncio.timeout(5):
        while world.services.gate.in_flight or kinds(world):
            await asyncio.sleep(0.01)


async def test_an_agent_that_leaves_with_half_of_its_answer_is_no_error(world: Any) -> None:
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    connection = AgentConnection(world.server._app.connections)
    connection.pause_writing()
    connection.connection_lost(None)
    del connection
    gc.collect()
    assert seen == []


async def test_a_stream_that_nobody_reads_holds_its_writer_up(world: Any, helpers: Any) -> None:
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


async def answers(world: Any, helpers: Any, session: dict[str, str]) -> list[tuple[int, dict[str, str], bytes]]:
    """What the gateway says to requests of all kinds, but for what differs each time."""
    modern_headers, listing = helpers.modern("tools/list")
    requests = [
        post(CALL, session),
        post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, session),
        post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session),
        post({"jsonrpc": "2.0", "id": 1, "method": "no/such"}, session),
        post({**CALL, "params": {"name": "refuse"}}, session),
        post({**CALL, "params": {"name": "bug"}}, session),
        post({**CALL, "params": []}, session),
        post(b'{"jsonrpc": "2.0", "id": 1, "id": 2, "method": "ping"}', session),
        post(b"not JSON", session),
        post(CALL, {**session, "Mcp-Session-Id": "another"}),
        post(CALL),
        modern(helpers),
        modern(helpers, "refuse"),
        post(listing, modern_headers),
        post(listing, {**modern_headers, "Mcp-Method": "tools/call"}),
        post(listing, {**modern_headers, "MCP-Protocol-Version": "2099-01-01"}),
        post({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": listing["params"]}, modern_headers),
    ]
    found = []
    for request in requests:
        responses, writer = await dial(world)
        writer.write(request)
        status, headers, body = await responses.next()
        headers = {name: value for name, value in headers.items() if name != "Date"}
        found.append((status, headers, re.sub(rb"[0-9a-f]{8}[0-9a-f]+", b"*", body)))
        writer.close()
    return found


async def test_answers_are_the_same_to_the_last_header_either_way(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    here = await answers(world, helpers, session)
    world.server._app.connections.short = not world.server._app.connections.short
    there = await answers(world, helpers, session)
    for one, other in zip(here, there, strict=True):
        assert one[0] == other[0]
        assert dict(sorted(one[1].items())) == dict(sorted(other[1].items()))
        assert one[2] == other[2]


async def test_connections_that_nobody_uses_are_closed(world: Any, helpers: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(short_way, "IDLE_TIMEOUT", 0.05)
    monkeypatch.setattr(short_way, "HEADER_TIMEOUT", 0.05)
    used, writer = await dial(world)
    writer.write(modern(helpers))
    assert (await used.next())[0] == 200
    silent, other = await asyncio.open_connection("127.0.0.1", world.server.port)
    async with asyncio.timeout(10):
        assert (await silent.read()).startswith(b"HTTP/1.1 408 ")
        while kinds(world):
            await asyncio.sleep(0.02)
    writer.close()
    other.close()


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
    (session,) = world.services.sessions._sessions.values()
    return session


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_stream_stays_on_the_short_way_and_what_comes_after_it_is_served_there(
    world: Any, helpers: Any
) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    session = only_session(world)
    writer.write(get(session_id) + modern(helpers))
    await until(lambda: session.streams == 1)
    if world.server._app.connections.short:
        assert kinds(world) == [AgentConnection]
        (connection,) = world.server._app.connections._open
        assert connection.busy
    session.mailbox.put(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}', 1)
    session.mailbox.close()
    status, headers, body = await responses.next()
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert b"list_changed" in body
    status, _, body = await responses.next()
    assert (status, json.loads(body)["id"]) == (200, 7)
    assert session.streams == 0
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
    await until(lambda: session.streams == 0 and len(kinds(world)) <= 1)
    assert session.streams == 0, "each was counted out again"
    writer.close()


async def test_a_stream_that_is_lost_before_its_first_step_is_tidied_up() -> None:
    tidied = []

    async def writing() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            tidied.append("what was counted is counted out")

    streaming = Streaming(writing())
    streaming.lost()
    await asyncio.wait(streaming.tasks(), timeout=2)
    assert streaming.running.cancelled()
    assert tidied


async def test_no_more_streams_than_allowed_however_fast_they_are_asked_for(world: Any) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    dialled = [await dial(world) for _ in range(12)]
    for _, one in dialled:
        one.write(get(session_id))
    session = only_session(world)
    await until(lambda: session.streams == 8)
    await asyncio.sleep(0.05)
    assert session.streams == 8
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
async def test_a_stream_that_is_refused_is_so_with_the_same_words_both_ways(
    world: Any, extra: dict[str, str], accept: str, status: int
) -> None:
    responses, writer = await dial(world)
    session_id = await initialized(responses, writer)
    connections = world.server._app.connections
    answers = []
    for short in (connections.short, False):
        connections.short = short
        one, other = await dial(world)
        other.write(get(session_id, extra, accept))
        answers.append(await one.next())
        other.close()
    for answer in answers:
        answer[1].pop("Date")
    assert answers[0] == answers[1]
    assert answers[0][0] == status
    writer.close()


def test_a_get_with_anything_rare_is_left_to_the_long_way() -> None:
    reader = HeadReader(HostGuard("127.0.0.1"), 1000)
    usual = reader.read(get("abc"))
    assert usual is not None
    assert (usual.posts, usual.length, usual.remembered) == (False, 0, False)
    for extra in ({"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}, {"Expect": "100-continue"}):
        assert reader.read(get("abc", extra)) is None
    assert reader.read(get("abc").replace(b"GET /mcp", b"GET /mcp?a=1")) is None
    assert reader.read(get("abc").replace(b"GET /mcp", b"GET /healthz")) is None
    assert reader.read(get("abc").replace(b"HTTP/1.1", b"HTTP/1.0")) is None
    assert reader.read(get("abc").replace(b"GET ", b"HEAD ")) is None
