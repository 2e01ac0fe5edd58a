"""The server over TLS, with real certificates, on asyncio's event loop and on uvloop's."""

import asyncio
import contextlib
import socket
import ssl
from typing import Any

import pytest

from gateway_core.http1 import connection, writer
from gateway_core.http1.response import Response
from tests.http1.conftest import Run, dialled, read_response, until

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("path", [b"/", b"/size?3000000", b"/stream?50", b"/refused", b"/wait"])
def test_a_connection_is_kept_alive_and_then_closed_as_asked(run: Run, path: bytes) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            peer.write(GET % path + CLOSE % b"/")
            if path == b"/wait":
                await until(lambda: bool(world.application.pending))
                world.application.pending[0].running.set_result(Response(b"waited"))
            answer = await reader.read()
            assert answer.count(b"HTTP/1.1 ") == 2
            assert answer.endswith(b"nothing")

    run(body)


def test_many_requests_share_a_connection(run: Run) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            for number in range(50):
                payload = b"x" * number
                peer.write(b"POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (number, payload))
                _, answer = await read_response(reader)
                assert answer == (payload or b"nothing")
            assert world.server.admitted == 1
            assert next(iter(world.server._open)).secure

    run(body)


def test_the_pieces_of_a_stream_arrive_while_it_goes_on(run: Run) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            peer.write(GET % b"/wait")
            await until(lambda: bool(world.application.pending))
            (pending,) = world.application.pending
            (open_connection,) = world.server._open
            stream = await open_connection.begin_stream({"Content-Type": "text/event-stream"})
            await reader.readuntil(b"\r\n\r\n")
            for number in range(3):
                await stream.write(b"data: %d\n\n" % number)
                assert await reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
            pending.running.set_result(None)
            assert await reader.readuntil(b"0\r\n\r\n") == b"0\r\n\r\n"
            peer.write(CLOSE % b"/")
            assert (await reader.read()).endswith(b"nothing")

    run(body)


def test_an_http_1_0_client_reads_a_stream_to_its_end(run: Run) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            peer.write(b"GET /stream?5 HTTP/1.0\r\nHost: a\r\nX-Times: 20000\r\n\r\n")
            assert (await reader.read()).endswith(b"piece\n" * 100_000)

    run(body)


@pytest.mark.parametrize("how", ["cut", "closed"])
@pytest.mark.parametrize("path", [b"/wait", b"/stream?3000"])
def test_a_connection_that_breaks_ends_what_it_waited_for(run: Run, path: bytes, how: str) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (_, peer):
            peer.write(GET.replace(b"Host", b"X-Times: 5000\r\nHost") % path)
            await until(lambda: bool(world.application.pending))
            if how == "cut":
                peer.transport.abort()  # without a word of TLS
            else:
                peer.close()
            await until(lambda: world.application.pending[0].is_lost)
            await until(lambda: not world.server._open)
            assert world.server.admitted == 0

    run(body)


def test_plain_http_on_the_port_is_hung_up_on(run: Run) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        for data in (GET % b"/", b"\0" * 5, b"\x16\x03\x01\x00\x05nonsense"):
            async with dialled(world, None) as (reader, peer):
                peer.write(data)
                answer = b""
                with contextlib.suppress(ConnectionError):
                    answer = await reader.read()
                assert b"HTTP" not in answer
        assert world.application.served == []
        async with dialled(world, client) as (reader, peer):
            peer.write(CLOSE % b"/")
            assert (await reader.read()).endswith(b"nothing")

    run(body)


def test_a_client_that_does_not_trust_the_certificate_hangs_up(run: Run) -> None:
    async def body(world: Any, _: ssl.SSLContext) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await world.dial(ssl=ssl.create_default_context())
        assert world.application.served == []
        assert world.server.admitted == 0

    run(body)


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_handshake_that_stalls_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connection, "HEAD_TIMEOUT", 0.2)

    async def body(world: Any, _: ssl.SSLContext) -> None:
        async with dialled(world, None) as (reader, peer):
            peer.write(begun)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""

    run(body)


def test_a_client_that_still_sends_gets_the_refusal(run: Run) -> None:
    """Closing at once would reset the connection, and the client would lose the response."""

    async def body(world: Any, client: ssl.SSLContext) -> None:
        for _ in range(5):
            async with dialled(world, client) as (reader, peer):
                peer.write(b"POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
                for _ in range(200):
                    peer.write(b"x" * 100_000)
                    await peer.drain()
                head, _ = await read_response(reader)
                assert head.startswith(b"HTTP/1.1 413 ")
                assert b"Connection: close" in head

    run(body)


def test_a_refused_client_that_never_stops_sending_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.1)

    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (_, peer):
            peer.write(b"POST /full HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while world.server._open or not world.application.refusals:
                    peer.write(b"x" * 1000)
                    await peer.drain()
                    await asyncio.sleep(0.005)
            await until(lambda: not world.server._open)

    run(body)


def test_a_last_response_that_is_read_slowly_is_not_cut(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LINGER", 0.05)
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 0.2)

    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (reader, peer):
            peer.write(CLOSE % b"/size?30000000")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Connection: close" in head
            received = 0
            for _ in range(10):
                await asyncio.sleep(0.1)
                received += len(await reader.read(200_000))
            while data := await reader.read(1_000_000):
                received += len(data)
            assert received == 30_000_000

    run(body)


def test_a_client_that_reads_nothing_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WRITE_TIMEOUT", 0.2)

    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (_, peer):
            peer.transport.pause_reading()
            peer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.write(GET % b"/size?30000000")
            await until(lambda: len(world.application.served) == 1)
            await until(lambda: not world.server._open)

    run(body)


def test_draining_lets_responses_finish(run: Run) -> None:
    async def body(world: Any, client: ssl.SSLContext) -> None:
        async with dialled(world, client) as (idle, _), dialled(world, client) as (busy, peer):
            peer.write(GET % b"/wait")
            await until(lambda: bool(world.application.pending))
            draining = asyncio.create_task(world.server.drain(5.0))
            assert await idle.read() == b""
            world.application.pending[0].running.set_result(Response(b"done"))
            assert (await busy.read()).endswith(b"done")
            await draining

    run(body)
