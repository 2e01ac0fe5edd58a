"""Connections of clients: order, persistence, time-outs, streams, refusals, loss."""

import asyncio
import gc
import re
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_core.http1 import connection as connections
from gateway_core.http1.connection import ServerConnection
from gateway_core.http1.server import HttpServer


def get(path: str, *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    headers = "".join(f"{line}\r\n" for line in ("Host: a", *lines))
    return f"{method} {path} HTTP/{version}\r\n{headers}\r\n".encode()


def post(path: str, body: bytes, *lines: str) -> bytes:
    return get(path, f"Content-Length: {len(body)}", *lines, method="POST") + body


def statuses(data: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", data)]


CLOSE = get("/", "Connection: close")


async def test_a_response_has_the_usual_headers(world: Any) -> None:
    answer = await world.exchange(post("/", b"ab") + CLOSE)
    first, second = answer.split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert re.fullmatch(
        rb"Server: tester\r\nDate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n"
        rb"Content-Type: application/json\r\nContent-Length: 2\r\n\r\nab",
        first,
    )
    assert b"Connection: close\r\n" in second
    assert b"Connection" not in first


async def test_requests_sent_together_are_answered_in_order(world: Any) -> None:
    answer = await world.exchange(b"".join(post("/", b"%d;" % number) for number in range(500)) + CLOSE)
    assert re.findall(rb"\r\n\r\n(\d+);", answer) == [b"%d" % number for number in range(500)]


async def test_a_request_behind_a_pending_one_waits_for_its_turn(world: Any) -> None:
    reader, writer = await world.dial()
    writer.write(post("/wait", b"1") + post("/", b"2"))
    await asyncio.sleep(0.05)
    assert [body for _, body in world.application.served] == [b"1"]
    world.application.pending[0].running.set_result(connections.Response(b"first"))
    assert (await reader.readuntil(b"\r\n\r\n2")).index(b"first")
    writer.close()


async def test_pending_responses_that_are_there_at_once_do_not_pile_up(world: Any) -> None:
    class Done:
        def add_done_callback(self, callback: Any) -> None:
            callback(self)

    class AtOnce:
        running = Done()

        def response(self) -> Any:
            return connections.Response(b"x")

    world.application.wait = lambda *_: AtOnce()
    answer = await world.exchange(get("/wait") * 1500 + CLOSE)
    assert len(statuses(answer)) == 1501


async def test_what_is_sent_ahead_is_read_up_to_a_bound(world: Any) -> None:
    reader, writer = await world.dial()
    writer.write(get("/wait"))
    sending = asyncio.create_task(_send(writer, [post("/", b"x" * 50_000)] * 200))
    await asyncio.sleep(0.2)
    assert not sending.done(), "10 MB were read ahead of their turn"
    (connection,) = world.server._open
    assert len(connection._reader.buffer) < 1_000_000
    world.application.pending[0].running.set_result(connections.Response(b"first"))
    for _ in range(201):
        await reader.readuntil(b"HTTP/1.1 200 OK")
    await sending
    writer.close()


async def _send(writer: asyncio.StreamWriter, pieces: list[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


async def test_a_chunked_body_is_read(world: Any) -> None:
    head = get("/", "Transfer-Encoding: chunked", method="POST")
    assert (await world.exchange(head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n" + CLOSE)).count(b"\r\n\r\nabc") == 1


async def test_head_has_the_length_and_no_body(world: Any) -> None:
    answer = await world.exchange(get("/", method="HEAD") + CLOSE)
    assert b"Content-Length: 7\r\n\r\nHTTP/1.1 200" in answer
    assert answer.count(b"nothing") == 1


async def test_a_response_without_content_has_no_length(world: Any) -> None:
    assert b"Content-Length" not in (await world.exchange(get("/empty", "Connection: close")))


async def test_a_large_response_arrives(world: Any) -> None:
    answer = await world.exchange(get("/size?300000", "Connection: close"))
    assert answer.endswith(b"\r\n\r\n" + b"x" * 300_000)
    assert b"Content-Type: text/plain" in answer


@pytest.mark.parametrize(
    ("lines", "closes"), [([], True), (["Connection: keep-alive"], False), (["Connection: close"], True)]
)
async def test_http10(world: Any, lines: list[str], closes: bool) -> None:
    answer = await world.exchange(get("/", *lines, version="1.0") * 2, until_closed=closes)
    assert len(statuses(answer)) == (1 if closes else 2)
    assert (b"Connection: close" if closes else b"Connection: keep-alive") in answer


async def test_a_stream_in_chunks_is_followed_by_the_next_response(world: Any) -> None:
    answer = await world.exchange(get("/stream?2") + CLOSE)
    assert b"Transfer-Encoding: chunked\r\n\r\n6\r\npiece\n\r\n6\r\npiece\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n" in answer


async def test_a_stream_to_http10_ends_with_the_connection(world: Any) -> None:
    answer = await world.exchange(get("/stream?2", "Connection: keep-alive", version="1.0"))
    assert answer.endswith(b"\r\n\r\npiece\npiece\n")
    assert b"Connection: close" in answer
    assert b"Transfer-Encoding" not in answer


async def test_a_stream_waits_for_a_client_that_reads_slowly(world: Any) -> None:
    reader, writer = await world.dial(limit=1000)
    writer.write(get("/stream?400", "X-Times: 20000"))  # 48 MB
    await asyncio.sleep(0.3)
    assert not world.application.pending[0].running.done()
    (connection,) = world.server._open
    assert connection._transport.get_write_buffer_size() < 1_000_000
    size = 0
    while size < 48_000_000:
        size += len(await reader.read(1_000_000))
    writer.close()


async def test_a_stream_that_has_ended_takes_nothing_more(world: Any) -> None:
    streams = []

    def keep(client: Any, *_: Any) -> Any:
        async def write() -> None:
            streams.append(await client.begin_stream({}))

        world.application.wait(client, *_)
        world.application.pending[-1].running = asyncio.get_running_loop().create_task(write())
        return world.application.pending[-1]

    world.application.stream = keep
    answer = await world.exchange(get("/stream") + get("/"), until_closed=False)
    assert len(statuses(answer)) == 2
    with pytest.raises(ConnectionResetError):
        await streams[0].write(b"into the next response")


async def test_a_client_that_leaves_loses_its_pending_response(world: Any) -> None:
    _, writer = await world.dial()
    writer.write(get("/wait"))
    await _until(lambda: world.application.pending)
    writer.close()
    await _until(lambda: world.application.pending[0].is_lost)
    await _until(lambda: not world.server._open)


class FullTransport(asyncio.Transport):
    """A transport whose peer reads nothing."""

    def get_write_buffer_size(self) -> int:
        return 1


async def test_a_client_that_leaves_with_half_of_its_response_is_no_error() -> None:
    seen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    application: Any = SimpleNamespace(claim=lambda *_: None, keep=lambda *_: True)
    server = HttpServer(application, name="x", max_body=1, max_connections=1)
    connection = ServerConnection(server)
    connection.connection_made(FullTransport())
    connection.pause_writing()
    connection.connection_lost(None)
    del connection, server
    gc.collect()
    assert seen == []


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"x" * 1000])
async def test_a_connection_goes_on_after_a_request_that_was_refused_by_its_head(world: Any, body: bytes) -> None:
    assert statuses(await world.exchange(post("/refused", body) + CLOSE)) == [403, 200]


@pytest.mark.parametrize(
    "request_",
    [
        get("/refused", "Content-Length: 10", method="POST") + b"x",
        get("/refused", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
        get("/refused", "Content-Length: 10", "Expect: 100-continue", method="POST"),
    ],
)
async def test_a_connection_ends_if_a_refused_request_has_more_to_come(world: Any, request_: bytes) -> None:
    answer = await world.exchange(request_)
    assert statuses(answer) == [403]
    assert b"Connection: close" in answer


async def test_a_refusal_reaches_a_client_that_is_still_sending(world: Any) -> None:
    for _ in range(10):
        reader, writer = await world.dial()
        writer.write(get("/refused", "Content-Length: 9000000", method="POST"))
        sending = asyncio.create_task(_send(writer, [b"x" * 50_000] * 100))
        assert statuses(await reader.readuntil(b"\r\n\r\n")) == [403]
        assert await reader.read() == b"not here"
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()


async def test_a_body_above_the_limit_is_refused_unread(world: Any) -> None:
    assert statuses(await world.exchange(get("/", "Content-Length: 100001", method="POST"))) == [413]
    head = get("/", "Transfer-Encoding: chunked", method="POST")
    assert statuses(await world.exchange(head + b"20000\r\n")) == [413]


CHUNK = b"2710\r\n" + b"x" * 10_000 + b"\r\n"


@pytest.mark.parametrize(
    ("framing", "pieces", "claims"),
    [
        ("Content-Length: 30000", [b"x" * 10_000] * 3, [30_000, -30_000]),
        ("Transfer-Encoding: chunked", [CHUNK, CHUNK, b"0\r\n\r\n"], [10_000, 10_000, -20_000]),
        ("Content-Length: 3", [b"abc"], []),
    ],
    ids=["length", "chunked", "at once"],
)
async def test_a_body_that_arrives_in_pieces_is_claimed_and_given_back(
    world: Any, framing: str, pieces: list[bytes], claims: list[int]
) -> None:
    reader, writer = await world.dial()
    head = get("/", framing, method="POST")
    if claims:
        writer.write(head)
        head = b""
        await _until(lambda: len(world.application.claims) > 0 or "chunked" in framing)
    for piece in pieces:
        writer.write(head + piece)
        await writer.drain()
        await asyncio.sleep(0.05)
    await reader.readuntil(b"\r\n\r\n")
    await _until(lambda: world.application.claims == claims)
    assert world.application.claimed == 0
    writer.close()


async def test_a_body_without_room_is_refused_and_a_lost_client_gives_its_room_back(world: Any) -> None:
    world.application.room = 50_000
    _, writer = await world.dial()
    writer.write(get("/", "Content-Length: 40000", method="POST"))
    await _until(lambda: world.application.claimed == 40_000)
    assert statuses(await world.exchange(get("/", "Content-Length: 20000", method="POST"))) == [503]
    assert world.application.claimed == 40_000
    writer.close()
    await _until(lambda: world.application.claimed == 0)


async def test_a_client_that_waits_for_100_gets_it(world: Any) -> None:
    reader, writer = await world.dial()
    writer.write(get("/", "Content-Length: 2", "Expect: 100-continue", method="POST"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"ab" + get("/", "Content-Length: 2", "Expect: 100-continue", method="POST") + b"cd")
    answer = await reader.readuntil(b"cd")
    assert statuses(answer) == [200, 200], "what is there need not be asked for"
    writer.close()


@pytest.mark.parametrize("path", ["/bug", "/handler-bug"])
async def test_a_bug_is_answered_and_the_connection_ends(world: Any, path: str) -> None:
    assert statuses(await world.exchange(post(path, b"x") + CLOSE)) == [500]
    assert len(world.application.failures) == 1


async def test_a_bug_in_a_pending_response_is_answered(world: Any) -> None:
    reader, writer = await world.dial()
    writer.write(get("/wait"))
    await _until(lambda: world.application.pending)
    world.application.pending[0].running.set_exception(ZeroDivisionError())
    assert statuses(await asyncio.wait_for(reader.read(), 5)) == [500]
    writer.close()


async def test_a_bug_within_a_stream_cuts_the_connection(world: Any) -> None:
    answer = await world.exchange(get("/stream?1", "X-Times: no number"))
    assert statuses(answer) == [200]
    assert not answer.endswith(b"0\r\n\r\n")
    assert len(world.application.failures) == 1


# -- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [b"", b"GET / HT", CLOSE[:-2]])
async def test_a_head_that_does_not_come_times_out(world: Any, monkeypatch: Any, begun: bytes) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", 0.1)
    assert statuses(await world.exchange(begun)) == [408]
    assert statuses(await world.exchange(get("/") + (begun or b"G"))) == [200, 408]


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_times_out(world: Any, monkeypatch: Any, framing: str) -> None:
    monkeypatch.setattr(connections, "BODY_TIMEOUT", 0.1)
    assert statuses(await world.exchange(get("/", framing, method="POST") + b"1")) == [408]


async def test_an_unused_connection_is_closed(world: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(connections, "IDLE_TIMEOUT", 0.1)
    monkeypatch.setattr(connections, "HEAD_TIMEOUT", 0.1)
    answer = await world.exchange(post("/", b"x"))
    assert statuses(answer) == [200]


async def test_a_pending_response_does_not_time_out(world: Any, monkeypatch: Any) -> None:
    for name in ("IDLE_TIMEOUT", "HEAD_TIMEOUT", "BODY_TIMEOUT"):
        monkeypatch.setattr(connections, name, 0.05)
    reader, writer = await world.dial()
    writer.write(get("/wait"))
    await asyncio.sleep(0.3)
    world.application.pending[0].running.set_result(connections.Response(b"late"))
    assert (await reader.readuntil(b"late")).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_client_that_does_not_hang_up_after_the_last_response_is_cut_off(world: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(connections, "LINGER", 0.1)
    reader, writer = await world.dial()
    writer.write(CLOSE)
    assert statuses(await reader.read()) == [200]
    await _until(lambda: not world.server._open)
    writer.close()


async def test_a_client_that_stops_reading_is_cut_off(world: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gateway_core.http1.writer.WRITE_TIMEOUT", 0.2)
    _, writer = await world.dial(limit=1000)
    writer.write(get("/size?20000000"))
    await _until(lambda: world.application.served and not world.server._open)
    writer.close()
