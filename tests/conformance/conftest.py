"""A whole gateway in this process over servers of the official SDK, and agents that write their own bytes.

A **lab** is such a server, of one era or both; it remembers every request that reached it. A **stand** is a gateway
with its labs behind it and an HTTP client before it.
"""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import pytest
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from pydantic import Field

from gateway_core.config import load
from gateway_core.gateway import Gateway
from gateway_core.hooks import LoadedPlugin

from .asgi import Send, answer, body_of, replayed
from .offers import add_others, add_questions

META = "io.modelcontextprotocol/"
LEGACY, MODERN = "2025-11-25", "2026-07-28"

Wire = Callable[["Seen", Send], Awaitable[None]]


# -- upstreams ----------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """One HTTP request that reached a lab."""

    verb: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def method(self) -> str:
        return str(self.body.get("method", ""))

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.body.get("params", {}))


@dataclass
class Lab:
    """One upstream. `wires` answer `tools/call` of a name, or a verb, with bytes that no real server would send."""

    name: str
    legacy: bool = False
    seen: list[Seen] = field(default_factory=list)
    wires: dict[str, Wire] = field(default_factory=dict)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def of(self, method: str) -> list[Seen]:
        """The requests with that JSON-RPC method, or that HTTP verb."""
        return [seen for seen in self.seen if method in (seen.method, seen.verb)]

    def server(self) -> MCPServer:
        server = MCPServer(self.name, version="1")

        @server.tool()
        def route(
            region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "",
            count: Annotated[int, Field(json_schema_extra={"x-mcp-header": "Count"})] = 0,
            flag: Annotated[bool, Field(json_schema_extra={"x-mcp-header": "Flag"})] = False,
            query: str = "",
        ) -> str:
            """Three parameters have headers."""
            return json.dumps({"region": region, "count": count, "flag": flag, "query": query})

        @server.tool()
        def echo(text: str = "") -> str:
            """Say it again."""
            return text

        @server.tool()
        async def steps(ctx: Context) -> str:
            """Report progress, wait to be released, report once more, answer."""
            await ctx.report_progress(1, 2)
            self.started.set()
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            await ctx.report_progress(2, 2)
            self.finished.set()
            return "done"

        @server.tool()
        async def forever(ctx: Context) -> str:
            """Report progress for ever."""
            try:
                for step in range(10**6):
                    await ctx.report_progress(step)
                    self.started.set()
                    await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return "never"

        add_questions(server)
        add_others(server, self.name)
        return server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await body_of(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        now = asyncio.get_running_loop().time()
        seen = Seen(scope["method"], headers, json.loads(body) if body else {}, now)
        self.seen.append(seen)
        if self.legacy and headers.get("mcp-protocol-version") == MODERN:
            await answer(send, 400, b"never heard of it", "text/plain")
            return
        wire = self.wires.get(str(seen.params.get("name", seen.verb)))
        if wire is not None:
            await wire(seen, send)
            return
        await self._app(scope, replayed(body, receive), send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Lab"]:
        self._app = self.server().streamable_http_app()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        self._uvicorn = uvicorn.Server(uvicorn.Config(self, log_level="error", timeout_graceful_shutdown=0))
        self._serving = asyncio.ensure_future(self._uvicorn.serve(sockets=[listener]))
        try:
            yield self
        finally:
            await self.stop()
            listener.close()

    async def stop(self) -> None:
        """End the server; nobody listens at its address any more."""
        self.released.set()
        self._uvicorn.should_exit = True
        await self._serving


# -- agents -------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """A response that was read to its end."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        """The response; the last message where it came as a stream."""
        return self.messages[-1] if self.body.startswith((b"id:", b"event:")) else json.loads(self.body)

    @property
    def code(self) -> Any:
        """The code of the JSON-RPC error in it."""
        return self.json["error"]["code"]

    @property
    def text(self) -> str:
        """The text of a tool's result."""
        return str(self.json["result"]["content"][0]["text"])

    @property
    def messages(self) -> list[Any]:
        """The messages of an event stream."""
        lines = self.body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@dataclass
class Events:
    """A response that is a stream, read event by event."""

    response: aiohttp.ClientResponse

    async def next(self) -> dict[str, str] | None:
        """The fields of the next event (a comment is one too, under the empty name); None at the end."""
        found: dict[str, str] = {}
        async with asyncio.timeout(10):
            while line := (await self.response.content.readline()).decode():
                if line == "\n":
                    if found:
                        return found
                    continue
                name, _, value = line.rstrip("\n").partition(":")
                found[name] = value.removeprefix(" ")
        return None

    async def message(self) -> Any:
        """The next event that holds a message, decoded; None at the end."""
        while (event := await self.next()) is not None:
            if event.get("data"):
                return json.loads(event["data"])
        return None

    async def rest(self) -> list[Any]:
        messages = []
        while (message := await self.message()) is not None:
            messages.append(message)
        return messages


@dataclass
class Stand:
    gateway: Gateway
    http: aiohttp.ClientSession
    labs: dict[str, Lab]

    @property
    def lab(self) -> Lab:
        return next(iter(self.labs.values()))

    @property
    def base(self) -> str:
        return self.gateway.address

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    async def send(self, verb: str, headers: Any = None, body: Any = None, path: str = "/mcp") -> Answer:
        """One request; a body that is no bytes is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else headers
        payload = io.BytesIO(data) if body is not None else None
        async with self.http.request(verb, self.base + path, data=payload, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def modern(self, method: str, params: Any = None, request_id: Any = 1, **headers: str | None) -> Answer:
        """A well-formed modern request, but for `headers`; None leaves one out."""
        own, body = modern_request(method, params, request_id)
        changes = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: value for name, value in own.items() if name not in changes}
        return await self.send("POST", kept | {k: v for k, v in changes.items() if v is not None}, body)

    async def initialize(
        self, name: str = "agent", version: str = LEGACY, path: str = "/mcp", **capabilities: Any
    ) -> dict[str, str]:
        """Open a legacy session; returns the headers of its later requests."""
        client = {"name": name, "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": client}
        opened = await self.send("POST", None, legacy_request("initialize", params, 0), path)
        assert opened.status == 200, opened.body
        session = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "MCP-Protocol-Version": version}
        done = await self.send("POST", session, {"jsonrpc": "2.0", "method": "notifications/initialized"}, path)
        assert done.status == 202
        return session

    async def legacy(self, session: dict[str, str], method: str, params: Any = None, request_id: Any = 1) -> Answer:
        return await self.send("POST", session, legacy_request(method, params, request_id))

    @asynccontextmanager
    async def stream(self, verb: str, headers: dict[str, str], body: Any = None) -> AsyncIterator[Events]:
        """A response whose stream is read while it goes on; leaving it closes the connection."""
        async with self.http.request(verb, self.url, headers=headers, json=body) as response:
            assert response.status == 200, await response.read()
            yield Events(response)
            response.close()

    async def raw(self, data: bytes, seconds: float = 5.0) -> bytes:
        """Send bytes on a socket of their own, read until the gateway closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.base.rpartition(":")[2]))
        writer.write(data)
        async with asyncio.timeout(seconds):
            received = await reader.read()
        writer.close()
        return received


def legacy_request(method: str, params: Any = None, request_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method} | ({"params": params} if params is not None else {})


def modern_request(method: str, params: Any = None, request_id: Any = 1) -> tuple[dict[str, str], dict[str, Any]]:
    params = dict(params or {})
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}, **params.pop("_meta", {})}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
    name = params.get("name", params.get("uri"))
    if name is not None:
        headers["Mcp-Name"] = name
    return headers, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": meta}}


def calling(tool: str, token: Any = None, **arguments: Any) -> dict[str, Any]:
    """Params of a `tools/call`."""
    meta = {"_meta": {"progressToken": token}} if token is not None else {}
    return {"name": tool, "arguments": arguments, **meta}


class Messages:
    """How messages are made, for tests."""

    legacy = staticmethod(legacy_request)
    modern = staticmethod(modern_request)
    calling = staticmethod(calling)
    answer = staticmethod(answer)


@pytest.fixture
def msg() -> type[Messages]:
    return Messages


Start = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Start a gateway: `await start("legacy", …, plugins=[objects], proxy="TOML", each="TOML of upstreams")`."""
    async with AsyncExitStack() as stack:

        async def begin(*eras: str, plugins: Sequence[object] = (), proxy: str = "", each: str = "") -> Stand:
            labs = [Lab(f"lab{number}", legacy=era == "legacy") for number, era in enumerate(eras or ("modern",))]
            for lab in labs:
                await stack.enter_async_context(lab.running())
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            tables = [
                f'[[mcp.proxy.upstreams]]\nname = "{lab.name}"\ntransport = "http"\nurl = "{lab.url}"\n{each}\n'
                for lab in labs
            ]
            path = tmp_path / f"{port}.toml"
            path.write_text(f"[mcp.proxy]\nport = {port}\n{proxy}\n" + "".join(tables))
            if plugins:
                import gateway_core.hooks.loader

                own = tuple(
                    LoadedPlugin(f"own{number}", plugin, "1", "d", (), "reject", frozenset({"tools/call"}))
                    for number, plugin in enumerate(plugins)
                )
                real = gateway_core.hooks.loader.load
                monkeypatch.setattr(gateway_core.hooks.loader, "load", lambda *args, **kw: (*own, *real(*args, **kw)))
            gateway = Gateway(load(path))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            await gateway.wait_first_discovery(20)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Stand(gateway, http, {lab.name: lab for lab in labs})

        yield begin


@pytest.fixture
async def stand(start: Start) -> Stand:
    """A gateway over one server that speaks both eras, so that it is spoken to in the modern one."""
    return await start("modern")


@pytest.fixture
async def legacy_stand(start: Start) -> Stand:
    """A gateway over one server of the legacy era."""
    return await start("legacy")
