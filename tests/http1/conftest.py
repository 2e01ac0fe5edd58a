"""A server of the test's own application on a real socket."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trustme
import uvloop

from gateway_core.http1.application import Client, Handler
from gateway_core.http1.head import HttpError, RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.server import HttpServer


class Pending:
    """A response that the test decides about."""

    def __init__(self, running: "asyncio.Future[Any]") -> None:
        self.running = running
        self.is_lost = False

    def response(self) -> Any:
        return self.running.result()

    def poll(self, now: float) -> None: ...

    def lost(self) -> None:
        self.is_lost = True
        asyncio.get_running_loop().call_soon(self.running.cancel)


class Echo:
    """Answers with what was asked; see `route`."""

    def __init__(self) -> None:
        self.served: list[tuple[RequestHead, bytes]] = []
        self.pending: list[Pending] = []
        self.failures: list[BaseException] = []
        self.refusals: list[HttpError] = []
        self.room = 100_000_000
        """Bytes of bodies that may be on their way."""
        self.claimed = 0
        self.claims: list[int] = []
        self.room_unread = 100_000_000
        """Bytes of one response that may be unread."""
        self.unread = 0

    def route(self, client: Client, head: RequestHead) -> Handler:
        if head.path == "/refused":
            raise HttpError(403, "not here")
        if head.path == "/bug":
            raise ZeroDivisionError
        if head.path == "/stream":
            return self.stream
        if head.path == "/wait":
            return self.wait
        if head.path in {"/full", "/held"} and not client.admit():
            raise HttpError(503, "too many connections", close=True)
        if head.path == "/held":
            return self.wait
        return self.echo

    def echo(self, client: Client, head: RequestHead, body: bytes) -> Response:
        self.served.append((head, body))
        if head.path == "/handler-bug":
            raise ZeroDivisionError
        if head.path == "/empty":
            return Response(status=204)
        if head.path == "/size":
            return Response(b"x" * int(head.query), headers={"Content-Type": "text/plain"})
        return Response(body or b"nothing")

    def wait(self, client: Client, head: RequestHead, body: bytes) -> Pending:
        self.served.append((head, body))
        self.pending.append(Pending(asyncio.get_running_loop().create_future()))
        return self.pending[-1]

    def stream(self, client: Client, head: RequestHead, body: bytes) -> Pending:
        async def write() -> None:
            stream = await client.begin_stream({"Content-Type": "text/plain"})
            for _ in range(int(head.query or 3)):
                await stream.write(b"piece\n" * int(head.fields.get("x-times", 1)))

        self.pending.append(Pending(asyncio.get_running_loop().create_task(write())))
        return self.pending[-1]

    def claim(self, client: Client, owner: str, size: int) -> None:
        if self.claimed + size > self.room:
            raise HttpError(503, "no room", close=True)
        self.claimed += size
        self.claims.append(size)

    def keep(self, client: Client, owner: str, size: int) -> bool:
        if size > self.room_unread:
            return False
        self.unread += size
        return True

    def refused(self, error: HttpError) -> Response:
        self.refusals.append(error)
        return Response(str(error).encode(), error.status, error.headers, error.close)

    def failed(self, error: BaseException) -> Response:
        self.failures.append(error)
        return Response(b"a bug", 500, close=True)


class World:
    """A running server, polled often."""

    def __init__(self, server: HttpServer, application: Echo) -> None:
        self.server = server
        self.application = application
        self._polling = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.server.poll()

    async def close(self) -> None:
        self._polling.cancel()
        await self.server.drain(0.0)

    async def dial(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port, **options)

    async def exchange(self, data: bytes, *, until_closed: bool = True) -> bytes:
        """Send bytes; what comes back until the server closes, or for a quarter of a second."""
        reader, writer = await self.dial()
        writer.write(data)
        received = b""
        try:
            async with asyncio.timeout(10 if until_closed else 0.25):
                while chunk := await reader.read(65536):
                    received += chunk
        except TimeoutError:
            assert not until_closed, "the server did not close the connection"
        writer.close()
        return received


@asynccontextmanager
async def _serving(**settings: Any) -> AsyncIterator[World]:
    tls = settings.pop("tls", None)
    application = Echo()
    server = HttpServer(application, **{"name": "tester", "max_body": 100_000, "max_connections": 100, **settings})
    await server.start("127.0.0.1", 0, tls=tls)
    world = World(server, application)
    try:
        yield world
    finally:
        await world.close()


@pytest.fixture
def serving() -> Any:
    """A context manager that runs a server with settings of the test's own, on any event loop."""
    return _serving


Start = Callable[..., Awaitable[World]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> World:
            return await stack.enter_async_context(_serving(**settings))

        yield begin


@pytest.fixture
async def world(start: Start) -> World:
    return await start()


# -- TLS ------------------------------------------------------------------------------------------------------------

Run = Callable[..., None]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, server_tls: ssl.SSLContext, client: ssl.SSLContext) -> Run:
    """Run `body(world, client)` with a server over TLS. The event loop must not report an error."""

    def runs(body: Callable[[World, ssl.SSLContext], Awaitable[None]], **settings: Any) -> None:
        async def main() -> None:
            errors: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
            async with asyncio.timeout(30), _serving(tls=server_tls, **settings) as world:
                await body(world, client)
            assert errors == []
            assert world.application.failures == []

        request.param(main())

    return runs


@asynccontextmanager
async def dialled(
    world: World, client: ssl.SSLContext | None, **options: Any
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the server; plain TCP if `client` is None."""
    reader, peer = await world.dial(ssl=client, **options)
    try:
        yield reader, peer
    finally:
        peer.transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(45):
        while not holds():
            await asyncio.sleep(0.01)


async def read_response(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The head and the body of a response with a length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)
