"""The HTTP client towards upstreams, against servers that send exactly what a test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.http1.client.connection import WireConnection
from gateway_core.http1.client.head import MAX_HEADERS, REMEMBERED, HeadCache
from gateway_core.http1.client.parser import MAX_INFORMATIONAL
from gateway_core.http1.client.response import HIGH, ClientResponse, ResponseHead
from gateway_core.limits.pace import Pace
from gateway_core.upstream.network import host as module
from gateway_core.upstream.transports.answers import read_body
from gateway_core.upstream.transports.client import HttpClient

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """One request, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def serving(script: Script, path: str = "/mcp", **config: Any) -> AsyncIterator[HttpClient]:
    """A client of a server that runs `script` on each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}{path}"
    client = HttpClient(UpstreamConfig(name="up", transport="http", url=url, **config), LimitsConfig())
    try:
        yield client
    finally:
        await client.close()
        server.close()
        for task in tasks:
            task.cancel()


def answering(*answers: bytes, pieces: int = 0, then_close: bool = False) -> Script:
    """Answer one request after the other, in pieces of that many bytes."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await request_of(reader)
            for start in range(0, len(answer), pieces or len(answer)):
                writer.write(answer[start : start + (pieces or len(answer))])
                await writer.drain()
                if pieces:
                    await asyncio.sleep(0)
        if not then_close:
            await reader.read()

    return script


async def post(client: HttpClient, body: bytes = b"{}", **settings: Any) -> tuple[int, bytes]:
    response = await client.open("POST", {"Content-Type": "application/json"}, body=body, **settings)
    try:
        return response.status, await read_body(response, 1 << 24)
    finally:
        response.close()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\nX-Trailer: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}"
INFORMED = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("pieces", [0, 1, 3, 40])
@pytest.mark.parametrize(
    ("answer", "kept"),
    [(PLAIN, True), (CHUNKED, True), (INFORMED, True), (UNTIL_CLOSE, False), (OLD, False)],
    ids=["length", "chunked", "informational", "until close", "HTTP/1.0"],
)
async def test_an_answer_is_read_however_it_is_framed_and_cut(answer: bytes, kept: bool, pieces: int) -> None:
    async with serving(answering(answer, pieces=pieces, then_close=not kept)) as client:
        assert await post(client) == (200, b"{}")
        assert len(client.connections._idle) == kept


async def test_an_answer_without_a_body_leaves_the_connection_good() -> None:
    accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    nothing = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with serving(answering(accepted, nothing, PLAIN)) as client:
        assert await post(client) == (202, b"")
        assert await post(client) == (204, b"")
        assert await post(client) == (200, b"{}")
        assert len(client.connections._open) == 1


_BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@given(chunks=_BODIES, cut=st.integers(min_value=1, max_value=60), chunked=st.booleans(), close=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_way_it_comes_the_answer_is_the_same(
    chunks: list[bytes], cut: int, chunked: bool, close: bool
) -> None:
    body = b"".join(chunks)
    head = b"HTTP/1.1 200 OK\r\nX-A: 1\r\n" + (b"Connection: close\r\n" if close else b"")
    if chunked:
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"
    else:
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def read(pieces: int) -> tuple[int, bytes]:
        async with serving(answering(answer, pieces=pieces)) as client:
            found = await post(client)
            assert len(client.connections._idle) == (not close)
            return found

    async def both() -> None:
        assert await read(0) == await read(cut) == (200, body)

    asyncio.run(both())


@pytest.mark.parametrize(
    "answer",
    [
        b"HELLO\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(MAX_HEADERS + 1)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INFORMATIONAL + 1) + PLAIN,
    ],
)
@pytest.mark.parametrize("pieces", [0, 7])
async def test_what_is_not_http_or_too_large_ends_the_connection(answer: bytes, pieces: int) -> None:
    async with serving(answering(answer, pieces=pieces, then_close=True)) as client:
        with pytest.raises(OutcomeUnknown):
            await post(client)
        await asyncio.sleep(0.01)
        assert not client.connections._idle
        assert not client.connections._open


async def test_a_head_without_an_end_is_not_kept_for_ever() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with serving(script) as client, asyncio.timeout(10):
        with pytest.raises(OutcomeUnknown, match="too large"):
            await post(client)


async def test_what_comes_after_an_answer_is_never_taken_for_the_next_one() -> None:
    smuggled = PLAIN + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    seen: list[int] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        await request_of(reader)
        writer.write(smuggled)
        await reader.read()

    async with serving(script) as client:
        for _ in range(3):
            assert await post(client) == (200, b"{}")
        assert len(seen) == 3, "each on a connection of its own"


async def test_what_comes_unasked_on_an_idle_connection_ends_it() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(PLAIN)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await reader.read()

    async with serving(script) as client:
        assert await post(client) == (200, b"{}")
        await asyncio.sleep(0.1)
        assert not client.connections._open
        assert await post(client) == (200, b"{}")


async def test_an_end_that_the_event_loop_has_not_noticed_yet_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule R10: a request is not spent on finding out that its connection is gone."""
    closed = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(PLAIN)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with serving(script) as client:
        for _ in range(5):
            assert await post(client) == (200, b"{}")
            closed.clear()


async def test_a_body_that_its_caller_does_not_read_is_not_piled_up() -> None:
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await request_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with serving(script) as client:
        response = await client.open("POST", {}, body=b"{}")
        await asyncio.sleep(0.3)
        held = response._size
        assert held <= HIGH + 512 * 1024
        before = sent
        await asyncio.sleep(0.2)
        assert sent == before, "the server is held up"
        total = 0
        while (chunk := await response.read()) is not None:
            total += len(chunk)
            if total > 20_000_000:
                break
        response.close()
        await asyncio.sleep(0.01)
        assert not client.connections._open


async def test_a_cancelled_request_takes_its_connection_along() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        await asyncio.sleep(60)

    async with serving(script) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await post(client)
        await asyncio.sleep(0.01)
        assert not client.connections._open


async def test_an_answer_that_breaks_off_is_told_apart_from_one_that_ends() -> None:
    async with serving(answering(PLAIN[:-1], then_close=True)) as client:
        with pytest.raises(OutcomeUnknown, match="broke off"):
            await post(client)


async def test_the_line_between_not_sent_and_unknown_is_the_first_byte() -> None:
    marks: list[str] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)

    async with serving(hang_up) as client:
        with pytest.raises(OutcomeUnknown, match=r"closed the connection without an answer|was reset"):
            await post(client, before_send=lambda: marks.append("sent"))
        assert marks == ["sent"]
        await client.close()
        with pytest.raises(NotSent):
            await post(client, before_send=lambda: marks.append("again"))
        assert marks == ["sent"]


class Balancer:
    """A listener that accepts each connection and closes it, as a balancer without servers does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, noticed: bool, first: bytes = b"") -> None:
        """`noticed`: the event loop has read the end of the connection before the request is sent. `first`: what is
        sent before that."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        dial = module.dial

        async def dial_and_lose(*args: Any) -> Any:
            connection: Any = await dial(*args)
            peer, _ = self._listener.accept()
            peer.sendall(first)
            peer.close()
            while noticed and connection._transport is not None:
                await asyncio.sleep(0)
            return connection

        monkeypatch.setattr(module, "dial", dial_and_lose)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"], ids=["silent", "speaking"])
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unread"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_request_is_not_sent_on_a_connection_that_was_closed_before(
    run: Callable[..., None], noticed: bool, first: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[str] = []

    async def main(balancer: Balancer) -> None:
        url = f"http://127.0.0.1:{balancer.port}/"
        client = HttpClient(UpstreamConfig(name="up", transport="http", url=url), LimitsConfig())
        with pytest.raises(NotSent, match=f"{balancer.port} closed the connection before the request was sent"):
            await post(client, before_send=lambda: marks.append("sent"))
        await asyncio.sleep(0.01)
        assert not client.connections._open
        await client.close()

    with closing(Balancer(monkeypatch, noticed=noticed, first=first)) as balancer:
        run(main(balancer))
    assert marks == []


async def test_a_proxy_that_accepts_and_closes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Balancer(monkeypatch, noticed=False)) as balancer:
        settings = {"url": "http://upstream.test/mcp", "proxy": f"http://127.0.0.1:{balancer.port}"}
        client = HttpClient(UpstreamConfig(name="up", transport="http", **settings), LimitsConfig())
        with pytest.raises(NotSent, match=f"the proxy 127.0.0.1:{balancer.port} closed the connection before"):
            await post(client)
        await client.close()


async def test_a_request_that_fails_before_it_is_sent_leaves_no_connection() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read())

    def refuse() -> None:
        raise NotSent("not any more")

    async with serving(script) as client:
        with pytest.raises(NotSent, match="not any more"):
            await post(client, before_send=refuse)
        async with asyncio.timeout(10):
            while not seen:
                await asyncio.sleep(0.01)
        assert not client.connections._open
    assert seen == [b""]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "\x7f", "€"])
async def test_headers_that_would_be_more_than_one_are_not_sent(value: str) -> None:
    async with serving(answering(PLAIN)) as client:
        with pytest.raises(NotSent, match="X-Asked"):
            await client.open("POST", {"X-Asked": value}, body=b"{}")


async def test_a_request_is_what_it_should_be() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await request_of(reader))
            writer.write(PLAIN)

    config = {"headers": {"X-Key": "secret"}}
    async with serving(script, "/mcp?a=b%20c", **config) as client:
        assert await post(client, b"[]") == (200, b"{}")
        response = await client.open("GET", {"Accept": "text/event-stream"})
        response.close()
        port = client.url.port
    lines = [line for request in seen for line in request.decode().split("\r\n")]
    assert lines.count(f"Host: 127.0.0.1:{port}") == 2
    assert lines[0] == "POST /mcp?a=b%20c HTTP/1.1"
    assert {"X-Key: secret", "Content-Length: 2", "Accept-Encoding: identity"} <= set(lines)
    assert [line.lower() for line in lines].count("content-type: application/json") == 1
    assert "GET /mcp?a=b%20c HTTP/1.1" in lines


async def test_idle_connections_are_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEPALIVE", 0.1)
    async with serving(answering(PLAIN)) as client:
        await asyncio.gather(*(post(client) for _ in range(5)))
        assert len(client.connections._open) == 5
        await asyncio.sleep(0.4)
        assert not client.connections._open


def test_only_so_many_heads_are_remembered() -> None:
    heads = HeadCache()
    for number in range(REMEMBERED + 20):
        data = b"HTTP/1.1 200 OK\r\nX: %d\r\nContent-Length: 2\r\n\r\n" % number
        assert heads.read(data) is heads.read(data)
    assert len(heads._known) == REMEMBERED
    chunked = heads.read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert chunked is not None
    assert chunked.length is None
    assert heads.read(b"HTTP/1.1 100 Continue\r\n\r\n") is None
    assert heads.read(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n") is None


async def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(answering(PLAIN)) as client:
        port = client.url.port
        client.url = client.url.with_host("localhost")
        loop = asyncio.get_running_loop()
        known = loop.getaddrinfo

        async def addresses(host: str, *args: Any, **kwargs: Any) -> Any:
            found = await known("127.0.0.1", port, **kwargs)
            family, kind, protocol, name, _ = found[0]
            return [(family, kind, protocol, name, ("127.0.0.2", 1)), *found]

        monkeypatch.setattr(loop, "getaddrinfo", addresses)
        assert await post(client) == (200, b"{}")


def test_a_response_that_was_closed_takes_nothing_in() -> None:
    connection = WireConnection(HeadCache(), lambda _: None, lambda _: None, 1000)
    head = HeadCache().read(PLAIN[:-2])
    assert head is not None
    response = ClientResponse(head, connection)
    response.close()
    response.feed(b"late")
    assert response.at_eof


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_many_tiny_chunks_are_read_as_few_pieces() -> None:
    head = CHUNKED + b"1\r\n{\r\n"
    async with serving(answering(head + b"1\r\n \r\n" * 100_000 + b"1\r\n}\r\n0\r\n\r\n")) as client:
        response = await client.open("POST", {}, body=b"{}")
        pieces = []
        while (piece := await response.read()) is not None:
            pieces.append(piece)
        assert b"".join(pieces) == b"{" + b" " * 100_000 + b"}"
        assert len(pieces) < 1000


def test_pieces_that_arrive_while_nothing_reads_are_few() -> None:
    response = ClientResponse(ResponseHead(200, CIMultiDict(), length=None, reusable=True), Unmoved())
    for _ in range(100_000):
        response.feed(b"x")
    assert len(response._chunks) < 100


class Unmoved:
    """A connection that does nothing."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abandon(self) -> None: ...
    def linger(self) -> None: ...


@pytest.mark.parametrize("framing", [b"1\r\n \r\n", b"1;" + b"a" * 1000 + b"\r\n \r\n"], ids=["chunks", "extensions"])
async def test_an_answer_that_is_mostly_framing_is_read_at_a_limited_rate(
    framing: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    class Counted(Pace):
        def pause(self, amount: float) -> float:
            paused.append(super().pause(amount))
            return paused[-1]

    monkeypatch.setattr("gateway_core.http1.client.connection.Pace", Counted)
    size = 2 * 1024 * 1024
    answer = CHUNKED + framing * (size // len(framing)) + b"2\r\n{}\r\n0\r\n\r\n"
    async with serving(answering(answer)) as client:
        status, body = await post(client)
    assert (status, body.strip()) == (200, b"{}")
    assert sum(paused) > 0.5


async def test_an_answer_of_large_chunks_is_not_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.http1.client.connection.FRAMING_BURST", 16 * 1024)
    chunk = b"%x\r\n%b\r\n" % (16 * 1024, b" " * 16 * 1024)
    waits: list[float] = []
    monkeypatch.setattr(WireConnection, "_slow", lambda _, seconds: waits.append(seconds))
    async with serving(answering(CHUNKED + chunk * 500 + b"2\r\n{}\r\n0\r\n\r\n")) as client:
        assert (await post(client))[0] == 200
    assert waits
    assert not any(waits)
