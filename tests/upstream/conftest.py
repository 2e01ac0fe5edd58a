"""HTTP upstreams for the tests: real ones in child processes, and one whose every byte the test decides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.exchange.exchange import Exchange
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.upstream.base import ClientContext
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.http import HttpConnection
from tests.upstream import inline_kit

SDK_SERVER = Path(__file__).parent / "http_servers" / "sdk_http.py"


@dataclass
class Seen:
    """One HTTP request as it arrived."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    """Which of the server's connections it came on, from 1."""
    reader: asyncio.StreamReader

    async def hang_up(self) -> None:
        """Wait until the client has closed the connection."""
        while not self.reader.at_eof():
            await asyncio.sleep(0.01)

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body) if self.body else {}

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))


Script = Callable[[Seen, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes | str = b"", kind: str = "application/json", **headers: str) -> bytes:
    """A whole HTTP answer."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def result(seen: Seen, value: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The response to a request."""
    return {"jsonrpc": "2.0", "id": seen.message.get("id"), "result": value or {"content": []}}


@dataclass
class Scripted:
    """A server that negotiates by itself; all other requests go to the test's script."""

    script: Script
    era: str
    session: str | None
    capabilities: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of the answer to `initialize`."""
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def of(self, method: str) -> list[Seen]:
        """The requests with that JSON-RPC method, or that HTTP verb."""
        return [seen for seen in self.seen if method in (seen.method, seen.verb)]

    async def until(self, method: str, count: int = 1) -> Seen:
        """Wait for the `count`-th of them."""
        async with asyncio.timeout(5):
            while len(self.of(method)) < count:
                await asyncio.sleep(0.005)
        return self.of(method)[count - 1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            verb, path, _ = head[0].split(" ")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            seen = Seen(verb, path, headers, body, connection, reader)
            self.seen.append(seen)
            answer = self._negotiation(seen)
            if answer is not None:
                writer.write(answer)
            else:
                await self.script(seen, writer)
            await writer.drain()

    def _negotiation(self, seen: Seen) -> bytes | None:
        if seen.method == "server/discover" and self.era == "modern":
            found = {"supportedVersions": ["2026-07-28"], "capabilities": self.capabilities, "resultType": "complete"}
            return http(200, json.dumps(result(seen, found)))
        if seen.method == "server/discover" and self.era == "legacy":
            return http(400)
        if seen.method == "initialize" and self.era == "legacy":
            found = {"protocolVersion": "2025-11-25", "capabilities": self.capabilities, "serverInfo": {"name": "s"}}
            extra = {"Mcp_Session_Id": self.session} if self.session else {}
            extra |= self.headers
            return http(200, json.dumps(result(seen, found)), **extra)
        if seen.method == "notifications/initialized":
            return http(202)
        return None


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Listen = Callable[..., Awaitable[int]]


@pytest.fixture
async def listen_on() -> AsyncIterator[Listen]:
    """Serve connections with a handler: `port = await listen_on(handler, tls=None)`.

    What a handler raises fails the test.
    """
    servers: list[asyncio.Server] = []
    handlers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def start(handler: Handler, tls: ssl.SSLContext | None = None) -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with (
                contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError),
                contextlib.closing(writer),
            ):
                await handler(reader, writer)

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            handlers[asyncio.create_task(handle(reader, writer))] = writer

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24, ssl=tls)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()
    for task, writer in handlers.items():
        task.cancel()
        writer.transport.abort()
    ended = await asyncio.gather(*handlers, return_exceptions=True)
    await asyncio.sleep(0.01)  # transports close in the loop's next turns
    failures = [end for end in ended if isinstance(end, Exception)]
    assert not failures, failures


StartScripted = Callable[..., Awaitable[Scripted]]


@pytest.fixture
async def scripted(listen_on: Listen) -> StartScripted:
    """Start a `Scripted` server on a free port: `await scripted(script, era="modern", session=None, tls=None)`."""

    async def start(
        script: Script,
        *,
        era: str = "modern",
        session: str | None = None,
        capabilities: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Scripted:
        found = Scripted(script, era, session, capabilities or {}, dict(headers or {}))
        found.port = await listen_on(found.serve, tls)
        return found

    return start


@dataclass
class Link:
    """An HTTP connection under test, and what it was told from outside of any call."""

    connection: HttpConnection
    http: HttpClient
    notifications: list[str]


Connect = Callable[..., Awaitable[Link]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make an `HttpConnection`: `await connect(url, known_era=None, limits=None, opened=True, **upstream keys)`."""
    links: list[Link] = []

    async def make(
        url: str,
        known_era: Any = None,
        *,
        limits: LimitsConfig | None = None,
        opened: bool = True,
        account: Account = UNCOUNTED,
        **keys: Any,
    ) -> Link:
        config = UpstreamConfig(name="fixture", transport="http", url=url, **keys)
        limits = limits or LimitsConfig()
        client = HttpClient(config, limits, account=account)
        notifications: list[str] = []

        def told(method: str, params: Raw, exchange: Exchange | None) -> None:
            notifications.append(method)

        context = ClientContext(told, account=account)
        link = Link(HttpConnection(config, limits, context, client), client, notifications)
        links.append(link)
        if opened:
            await link.connection.open(known_era)
        return link

    yield make
    for link in links:
        await link.connection.close()
        await link.http.close()


StartSdk = Callable[..., str]


@pytest.fixture(scope="session")
def sdk_server() -> Iterator[StartSdk]:
    """The official SDK's server in a child process, one for each set of flags: `url = sdk_server("--legacy-only")`."""
    children: dict[tuple[str, ...], tuple[subprocess.Popen[bytes], str]] = {}

    def start(*flags: str) -> str:
        if flags not in children:
            command = [sys.executable, str(SDK_SERVER), *flags]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert child.stdout is not None
            children[flags] = (child, f"http://127.0.0.1:{int(child.stdout.readline())}/mcp")
        return children[flags][1]

    yield start
    for child, _ in children.values():
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@pytest.fixture
async def world(scripted: Any) -> AsyncIterator[inline_kit.Start]:
    """Start a world whose server does with a call what `script` says, but answers those of `warm` well.

    Without a script it is `server`, or else `faulty.py`.
    """
    worlds: list[inline_kit.World] = []

    async def start(
        script: inline_kit.Script | None,
        *plugins: Any,
        era: str = "modern",
        session: str | None = None,
        server: Any = None,
        warm: bool = True,
        **settings: Any,
    ) -> inline_kit.World:
        http, response = inline_kit.http, inline_kit.response

        async def serve(seen: Any, writer: asyncio.StreamWriter) -> None:
            if seen.method == "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", "other")]
                writer.write(http(response(seen, {"tools": tools, "ttlMs": 10**8, "cacheScope": "public"}, era)))
            elif seen.method != "tools/call":
                writer.write(http(b"", status=202) if seen.verb == "POST" else http(b"", status=405))
            elif not seen.message["params"].get("arguments"):
                writer.write(http(response(seen, inline_kit.GOOD, era)))
            else:
                assert script is not None
                await script(seen, writer)

        if script is not None:
            server = await scripted(serve, era=era, session=session, capabilities={"tools": {}})
        made = inline_kit.World(server, *plugins, **settings)
        worlds.append(made)
        made.health.start()
        await made.health.wait_first_attempts(20)
        if warm and script is not None:
            await made.warm()
        return made

    yield start
    for made in worlds:
        await made.health.stop()
        await made.pool.close()
