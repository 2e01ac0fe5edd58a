"""Servers of the official SDK whose lists a test can change, a gateway before them, and agents on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import mcp_types as types
import uvicorn
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ServerEvent
from mcp.shared.exceptions import MCPError

from gateway_core.config.loader import loads
from gateway_core.gateway import Gateway
from tests.ports import free_port

LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
PRIVATE, PUBLIC = CacheHint(0, "private"), CacheHint(60_000, "public")

Handler = Callable[[Any, Any], Awaitable[Any]]


def tool(name: str, schema: Mapping[str, Any] | None = None, **members: Any) -> types.Tool:
    return types.Tool(name=name, input_schema=dict(schema or {"type": "object"}), **members)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the test runner's."""
        yield


@dataclass
class Offering:
    """What one server offers; the test changes it under the server's feet."""

    name: str
    tools: list[types.Tool] = field(default_factory=list)
    resources: list[types.Resource] = field(default_factory=list)
    templates: list[types.ResourceTemplate] = field(default_factory=list)
    hints: dict[str, CacheHint] = field(default_factory=dict)
    """By method."""
    listing: Callable[[Any], Awaitable[list[types.Tool]]] | None = None
    """Called with the capabilities of the caller for the tools that it gets."""
    override: Callable[[dict[str, Any]], bytes | None] | None = None
    """Called with each message; gives the JSON of the result, or None to have the SDK answer."""
    results: dict[str, types.CallToolResult] = field(default_factory=dict)
    """What calls of a tool give; without one, `server:tool` as text."""
    listed: list[str] = field(default_factory=list)
    """List methods in the order in which they were asked for."""
    called: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Tool, arguments and headers of each call that was executed."""
    read: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    """URIs that can be read, too."""
    calling: Callable[[types.CallToolRequestParams], Awaitable[None]] | None = None
    """What a call does before it answers."""
    announces: bool = True
    """Whether it tells of changes."""
    legacy: bool = False
    """Whether it turns away modern requests, as a server of that era does."""
    port: int = 0
    _uvicorn: uvicorn.Server | None = None
    _bus: InMemorySubscriptionBus = field(default_factory=InMemorySubscriptionBus)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def tell(self, event: ServerEvent) -> None:
        """Tell whoever listens that something changed."""
        await self._bus.publish(event)

    def _server(self) -> Server[Any]:
        def said(method: str) -> dict[str, Any]:
            self.listed.append(method)
            hint = self.hints.get(method)
            return {} if hint is None else {"ttl_ms": hint.ttl_ms, "cache_scope": hint.scope}

        async def tools(ctx: Any, params: Any) -> types.ListToolsResult:
            hints = said("tools/list")
            if self.listing is None:
                return types.ListToolsResult(**hints, tools=list(self.tools))
            capabilities = (ctx.meta or {}).get("io.modelcontextprotocol/clientCapabilities", {})
            return types.ListToolsResult(**hints, tools=await self.listing(capabilities))

        async def resources(ctx: Any, params: Any) -> types.ListResourcesResult:
            return types.ListResourcesResult(**said("resources/list"), resources=list(self.resources))

        async def templates(ctx: Any, params: Any) -> types.ListResourceTemplatesResult:
            hints = said("resources/templates/list")
            return types.ListResourceTemplatesResult(**hints, resource_templates=list(self.templates))

        async def call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            headers = dict(ctx.request.headers) if ctx.request is not None else {}
            self.called.append((params.name, params.arguments, headers))
            if self.calling is not None:
                await self.calling(params)
            text = types.TextContent(type="text", text=f"{self.name}:{params.name}")
            return self.results.get(params.name) or types.CallToolResult(content=[text])

        async def read(ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
            self.read.append(params.uri)
            known = [resource.uri for resource in self.resources] + self.unlisted
            if params.uri not in known:
                raise MCPError(-32602, "Resource not found", {"uri": params.uri})
            contents = types.TextResourceContents(uri=params.uri, text=f"{self.name} has {params.uri}")
            return types.ReadResourceResult(contents=[contents])

        def schema(name: str) -> Mapping[str, Any] | None:
            return next((one.input_schema for one in self.tools if one.name == name), None)

        return Server(
            self.name,
            cache_hints=self.hints,  # type: ignore[arg-type]
            get_tool_input_schema=schema,
            on_list_tools=tools,
            on_list_resources=resources,
            on_list_resource_templates=templates,
            on_call_tool=call,
            on_read_resource=read,
            on_subscriptions_listen=ListenHandler(self._bus) if self.announces else None,
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve it on its port, a free one at first."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen()
        self.port = listener.getsockname()[1]
        app: Any = self._server().streamable_http_app()
        config = uvicorn.Config(_Front(app, self), log_level="critical", timeout_graceful_shutdown=0)
        server = self._uvicorn = _Uvicorn(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            self.die()
            await task
            listener.close()

    def die(self) -> None:
        """End the server as a crash would: connections are cut."""
        assert self._uvicorn is not None
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        for connection in list(self._uvicorn.server_state.connections):
            connection.transport.abort()


class _Front:
    """Stands before the SDK's application for what that cannot do: be old, or answer wrongly."""

    def __init__(self, app: Any, offering: Offering) -> None:
        self._app = app
        self._offering = offering

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._offering.legacy and (b"mcp-protocol-version", b"2026-07-28") in scope.get("headers", ()):
            await self._answer(send, 400, b"Bad Request: unsupported protocol version")
            return
        if self._offering.override is None or scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        message = json.loads(body)
        result = self._offering.override(message)
        if result is not None:
            await self._answer(send, 200, b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (message["id"], result))
            return
        first = True

        async def again() -> Any:
            nonlocal first
            if first:
                first = False
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        await self._app(scope, again, send)

    @staticmethod
    async def _answer(send: Any, status: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Agent:
    """A modern agent: a name, capabilities, and a gateway to talk to."""

    url: str
    http: aiohttp.ClientSession
    name: str = "agent"
    capabilities: dict[str, Any] = field(default_factory=dict)

    async def raw(self, method: str, params: Mapping[str, Any] | None = None, meta: Any = None) -> bytes:
        own = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
        }
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": method,
            "params": {**(params or {}), "_meta": (meta or {}) | own},
        }
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": method,
        }
        name = (params or {}).get("name") or (params or {}).get("uri")
        if name is not None:
            headers["Mcp-Name"] = name
        async with self.http.post(self.url, data=io.BytesIO(json.dumps(message).encode()), headers=headers) as response:
            return await response.read()

    async def ask(self, method: str, params: Mapping[str, Any] | None = None, meta: Any = None) -> dict[str, Any]:
        """The response: `result` or `error`."""
        found: dict[str, Any] = json.loads(await self.raw(method, params, meta))
        return found

    async def result(self, method: str, params: Mapping[str, Any] | None = None, meta: Any = None) -> dict[str, Any]:
        answer = await self.ask(method, params, meta)
        assert "result" in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    async def error(self, method: str, params: Mapping[str, Any] | None = None) -> int:
        answer = await self.ask(method, params)
        assert "error" in answer, answer
        return int(answer["error"]["code"])

    async def tools(self) -> list[str]:
        return [found["name"] for found in (await self.result("tools/list"))["tools"]]

    async def call(self, name: str, **arguments: Any) -> dict[str, Any]:
        return await self.result("tools/call", {"name": name, "arguments": arguments})

    async def text(self, name: str, **arguments: Any) -> str:
        return str((await self.call(name, **arguments))["content"][0]["text"])

    async def read(self, uri: str) -> dict[str, Any]:
        return dict((await self.result("resources/read", {"uri": uri}))["contents"][0])


@dataclass
class LegacyAgent:
    """An agent of 2025-11-25, its session open."""

    url: str
    http: aiohttp.ClientSession
    name: str
    _headers: dict[str, str] = field(default_factory=dict)

    async def open(self) -> LegacyAgent:
        introduction = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": self.name, "version": "1"},
        }
        await self.ask("initialize", introduction)
        await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def ask(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        answer = await self._post({"jsonrpc": "2.0", "id": method, "method": method, "params": params or {}})
        events = [line.removeprefix(b"data:") for line in answer.splitlines() if line.startswith(b"data:")]
        found: dict[str, Any] = json.loads(events[-1] if events else answer)
        return found

    async def _post(self, message: dict[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        headers |= {name: value for name, value in self._headers.items() if value}
        async with self.http.post(self.url, data=io.BytesIO(json.dumps(message).encode()), headers=headers) as response:
            session = response.headers.get("Mcp-Session-Id")
            if session is not None:
                self._headers = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
            return await response.read()


@dataclass
class World:
    """Offerings behind one gateway."""

    gateway: Gateway
    http: aiohttp.ClientSession

    def agent(self, name: str = "agent", **capabilities: Any) -> Agent:
        return Agent(f"{self.gateway.address}/mcp", self.http, name, capabilities)

    async def legacy_agent(self, name: str = "elder") -> LegacyAgent:
        return await LegacyAgent(f"{self.gateway.address}/mcp", self.http, name).open()

    def upstream(self, name: str) -> Any:
        return next(one for one in self.gateway.pool.upstreams if one.name == name)

    def lists(self, name: str) -> str:
        return str(next(one for one in self.gateway.status()["upstreams"] if one["name"] == name)["lists"])


@contextlib.asynccontextmanager
async def world(*offerings: Offering, top: str = "", each: Mapping[str, str] | None = None) -> AsyncIterator[World]:
    """The gateway before servers that are being served already; `each`: lines of an upstream's table, by its name."""
    lines = ["[mcp.proxy]", "enable = true", f"port = {free_port()}", top]
    for one in offerings:
        lines += ["[[mcp.proxy.upstreams]]", f'name = "{one.name}"', 'transport = "http"', f'url = "{one.url}"']
        lines.append((each or {}).get(one.name, ""))
    gateway = Gateway(loads("\n".join(lines), Path("mcp-proxy.toml"), {}))
    await gateway.start()
    try:
        await gateway.wait_first_discovery()
        async with aiohttp.ClientSession() as http:
            yield World(gateway, http)
    finally:
        await gateway.stop()


async def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
