"""Connections and listening sockets that move from one server to the next, as over a restart, on both event loops."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gateway_core.http1.application import Client, Deferred
from gateway_core.http1.head import RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.server import HttpServer
from tests.http1.conftest import Echo, World, dialled, read_response

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"


class Named(Echo):
    """Answers with its name and the body, or leaves requests to the next server."""

    def __init__(self, name: bytes) -> None:
        super().__init__()
        self._name = name
        self.defers = False

    def echo(self, client: Client, head: RequestHead, body: bytes) -> Response:
        if self.defers and head.path != "/now":
            raise Deferred
        self.served.append((head, body))
        return Response(self._name + b":" + body)


class Pair:
    """Two servers, one after the other."""

    def __init__(self) -> None:
        self.before, self.after = Named(b"before"), Named(b"after")
        settings: Any = {"name": "tester", "max_body": 100_000, "max_connections": 100}
        self.first, self.second = HttpServer(self.before, **settings), HttpServer(self.after, **settings)
        self.world = World(self.first, self.before)

    async def move(self, grace: float = 0.2) -> int:
        """End the first server, and let the second one go on. Returns the number of connections that moved."""
        descriptors = self.first.duplicates()
        self.first.stop_accepting()
        moved = await self.first.hand_over(grace)
        await self.world.close()
        await self.second.start("", 0, sockets=[socket.socket(fileno=number) for number in descriptors])
        for number, received in moved:
            await self.second.adopt(number, received)
        self.world = World(self.second, self.after)
        return len(moved)


@asynccontextmanager
async def paired() -> AsyncIterator[Pair]:
    pair = Pair()
    await pair.first.start("127.0.0.1", 0)
    try:
        yield pair
    finally:
        await pair.world.close()


Runs = Callable[[Callable[[Pair], Awaitable[None]]], None]


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def runs(request: pytest.FixtureRequest) -> Runs:
    """Run `body(pair)`. The event loop must not report an error."""

    def run(body: Callable[[Pair], Awaitable[None]]) -> None:
        async def main() -> None:
            errors: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
            async with asyncio.timeout(60), paired() as pair:
                await body(pair)
            assert errors == []
            assert pair.before.failures == pair.after.failures == []

        request.param(main())

    return run


async def asked(reader: asyncio.StreamReader, peer: asyncio.StreamWriter, request: bytes) -> bytes:
    peer.write(request)
    return (await read_response(reader))[1]


def test_an_idle_connection_goes_on_with_the_next_server(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        async with dialled(pair.world, None) as (reader, peer), dialled(pair.world, None) as (silent, other):
            assert await asked(reader, peer, GET % b"/") == b"before:"
            assert await asked(silent, other, GET % b"/") == b"before:"
            assert await pair.move() == 2
            assert await asked(reader, peer, GET % b"/") == b"after:"
            assert await asked(reader, peer, POST % (b"/", 3, b"two")) == b"after:two"
            assert await asked(silent, other, GET % b"/") == b"after:"

    runs(body)


def test_connections_for_which_there_are_no_descriptors_end(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    dup, made = os.dup, list[int]()

    def scarce(descriptor: int) -> int:
        if len(made) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(dup(descriptor))
        return made[-1]

    async def body(pair: Pair) -> None:
        made.clear()
        async with dialled(pair.world, None) as (reader, peer), dialled(pair.world, None) as (other, another):
            assert await asked(reader, peer, GET % b"/") == b"before:"
            assert await asked(other, another, GET % b"/") == b"before:"
            with monkeypatch.context() as patched:
                patched.setattr(os, "dup", scarce)  # one for the listening socket, and one for a connection
                assert await pair.move() == 1
            ended = [asyncio.ensure_future(one.read()) for one in (reader, other)]
            done, left = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
            assert (len(done), len(left)) == (1, 1)
            for one in left:
                one.cancel()

    runs(body)


def test_a_deferred_request_is_served_by_the_next_server_once(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        pair.before.defers = True
        async with dialled(pair.world, None) as (reader, peer):
            assert await asked(reader, peer, GET % b"/now") == b"before:"
            peer.write(POST % (b"/", 4, b"late") + POST % (b"/", 5, b"later"))
            await asyncio.sleep(0.2)
            assert await pair.move() == 1
            assert [(await read_response(reader))[1] for _ in range(2)] == [b"after:late", b"after:later"]
        assert [content for _, content in pair.before.served] == [b""]
        assert [content for _, content in pair.after.served] == [b"late", b"later"]

    runs(body)


def test_a_deferred_chunked_request_arrives_whole(runs: Runs) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def body(pair: Pair) -> None:
        pair.before.defers = True
        async with dialled(pair.world, None) as (reader, peer), dialled(pair.world, None) as (another, other):
            peer.write(head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
            other.write(head + b"0\r\n\r\n")
            await asyncio.sleep(0.2)
            assert await pair.move() == 2
            assert (await read_response(reader))[1] == b"after:abc"
            assert (await read_response(another))[1] == b"after:"

    runs(body)


def test_a_head_that_is_half_received_moves(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        async with dialled(pair.world, None) as (reader, peer):
            request = GET % b"/"
            peer.write(request[:10])
            await asyncio.sleep(0.2)
            assert await pair.move() == 1
            assert await asked(reader, peer, request[10:]) == b"after:"

    runs(body)


def test_a_request_that_is_being_received_has_time_to_arrive(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        pair.before.defers = True
        async with dialled(pair.world, None) as (reader, peer), dialled(pair.world, None) as (cut, other):
            for one in (peer, other):
                one.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nla")
            await asyncio.sleep(0.2)
            moving = asyncio.ensure_future(pair.move(1.0))
            await asyncio.sleep(0.2)
            peer.write(b"te")
            assert await moving == 1
            assert (await read_response(reader))[1] == b"after:late"
            assert await cut.read() == b""

    runs(body)


def test_a_response_that_is_not_ready_ends_with_its_server(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        async with dialled(pair.world, None) as (reader, peer):
            peer.write(GET % b"/wait")
            while not pair.before.pending:
                await asyncio.sleep(0.01)
            assert await pair.move() == 0
            assert await reader.read() == b""

    runs(body)


def test_connections_that_come_meanwhile_wait_for_the_next_server(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        port = pair.first.port
        descriptors = pair.first.duplicates()
        pair.first.stop_accepting()
        await asyncio.sleep(0.1)
        reader, peer = await asyncio.open_connection("127.0.0.1", port)
        peer.write(GET % b"/")
        await asyncio.sleep(0.2)
        assert pair.before.served == []
        await pair.second.start("", 0, sockets=[socket.socket(fileno=number) for number in descriptors])
        assert pair.second.port == port
        assert (await read_response(reader))[1] == b"after:"
        peer.close()
        await pair.second.drain(0.0)

    runs(body)


def test_without_a_next_server_deferred_requests_are_served_here(runs: Runs) -> None:
    async def body(pair: Pair) -> None:
        pair.before.defers = True
        async with dialled(pair.world, None) as (reader, peer):
            peer.write(POST % (b"/", 1, b"1") + POST % (b"/", 1, b"2"))
            await asyncio.sleep(0.2)
            assert pair.before.served == []
            pair.before.defers = False
            pair.first.serve_deferred()
            assert [(await read_response(reader))[1] for _ in range(2)] == [b"before:1", b"before:2"]
            assert await asked(reader, peer, GET % b"/") == b"before:"

    runs(body)


def test_an_adopted_connection_may_be_idle_for_longer_than_a_new_one(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.http1.connection.HEAD_TIMEOUT", 0.2)

    async def body(pair: Pair) -> None:
        async with dialled(pair.world, None) as (reader, peer):
            assert await asked(reader, peer, GET % b"/") == b"before:"
            assert await pair.move() == 1
            await asyncio.sleep(0.6)
            assert await asked(reader, peer, GET % b"/") == b"after:"

    runs(body)


async def test_over_tls_a_request_is_refused_in_place_of_deferred(
    serving: Any, server_tls: ssl.SSLContext, client: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tls=server_tls) as world:

        def deferring(*_: object) -> Response:
            raise Deferred

        monkeypatch.setattr(world.application, "echo", deferring)
        async with dialled(world, client) as (reader, peer):
            peer.write(GET % b"/")
            answer = await reader.read()
        assert b" 503 " in answer
        assert b"Retry-After: " in answer
        assert await world.server.hand_over(0.0) == []
