"""A real server over a small pipeline that does what the called tool's name says."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from gateway_core.api import CallResult, Outcome
from gateway_core.catalog import Target
from gateway_core.config import LimitsConfig, ProxyConfig
from gateway_core.downstream.data_plane import DataPlane
from gateway_core.downstream.downstream import Downstream
from gateway_core.downstream.sessions.live import SessionEvents
from gateway_core.downstream.sessions.store import InMemorySessions, SessionStore
from gateway_core.errors import INVALID_PARAMS, REJECTED, RpcError
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks import Chain
from gateway_core.inline.deadlines import Deadline, Deadlines
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint
from gateway_core.pipeline.params import Supplied
from gateway_core.testing import configured

TOOLS = ["echo", "progress", "ask", "sleep", "nap", "fail", "refuse", "bug", "big", "announced"]


class FakeCatalog:
    def __init__(self) -> None:
        self.listeners: list[Callable[[frozenset[str]], None]] = []

    def changed_in(self, profile: str, kinds: frozenset[str]) -> frozenset[str]:
        return kinds

    def identity(self, era: str, profile: str = "") -> dict[str, Any]:
        capabilities = {kind: {"listChanged": True} for kind in ("tools", "resources", "prompts")}
        return {
            "capabilities": capabilities,
            "serverInfo": {"name": "gateway", "version": "1"},
            "instructions": f"hello {era}",
        }

    def discover_hint(self) -> Hint:
        return Hint(60_000, public=True)

    def listen(self, callback: Callable[[frozenset[str]], None]) -> Callable[[], None]:
        self.listeners.append(callback)
        return lambda: self.listeners.remove(callback) if callback in self.listeners else None

    def resource(self, uri: str, principal: str | None = None) -> Target | None:
        return None

    def change(self, *kinds: str) -> None:
        for listener in list(self.listeners):
            listener(frozenset(kinds))


@dataclass
class FakePipeline:
    catalog: FakeCatalog
    exchanges: list[Exchange] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    deadlines: Deadlines = field(default_factory=Deadlines)
    generation: int = 1

    async def _subscribe(self, uri: str, serve: Callable[[Target], Awaitable[CallResult]]) -> CallResult:
        try:
            target = self.catalog.resource(uri)
            if target is None:
                raise RpcError.of_gateway(INVALID_PARAMS, f"Resource not found: {uri}", uri=uri)
            return await serve(target)
        except RpcError as error:
            return CallResult.failed(error)

    async def call(
        self, exchange: Exchange, params: Mapping[str, jsonrpc.Raw], answer: Supplied | None = None
    ) -> CallResult:
        if exchange.method == "resources/subscribe" and callable(answer):
            return await self._subscribe(json.loads(bytes(params["uri"])), answer)
        self.exchanges.append(exchange)
        decoded = json.loads(jsonrpc.encode(params))
        if exchange.method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            return self._result(exchange, {"tools": tools, "ttlMs": 0, "cacheScope": "private"})
        if exchange.method != "tools/call":
            return CallResult.failed(RpcError.of_gateway(INVALID_PARAMS, "no such thing"))
        try:
            self.started.set()
            return self._result(exchange, await self._tool(exchange, decoded))
        except RpcError as error:
            return CallResult.failed(error)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.finished.set()
            exchange.close()

    def begin(self, exchange: Exchange, params: Mapping[str, jsonrpc.Raw]) -> asyncio.Task[CallResult]:
        now = asyncio.get_running_loop().time()
        deadline = Deadline(self.deadlines, exchange, now, now + 60.0)
        deadline.begin()
        task = asyncio.get_running_loop().create_task(self.call(exchange, params))
        task.add_done_callback(lambda _: deadline.end())
        return task

    async def _tool(self, exchange: Exchange, params: dict[str, Any]) -> dict[str, Any]:
        arguments = params.get("arguments", {})
        match params.get("name"):
            case "echo":
                text = json.dumps(arguments, sort_keys=True)
            case "progress":
                for step in range(arguments.get("steps", 3)):
                    exchange.progress(jsonrpc.Raw(b'{"progress":%d,"total":3}' % (step + 1)))
                    if arguments.get("slow"):
                        await asyncio.sleep(0.01)
                text = "done"
            case "ask":
                question = {"message": "name?", "requestedSchema": {"type": "object", "properties": {}}}
                answer = await exchange.back.ask("elicitation/create", json.dumps(question).encode())
                text = answer.decode()
            case "sleep":
                await asyncio.sleep(3600)
                text = "never"
            case "nap":
                await self.released.wait()
                text = "woken"
            case "announced":  # a stream begins, then nothing comes until it is released
                exchange.progress(jsonrpc.Raw(b'{"progress":1}'))
                await self.released.wait()
                exchange.progress(jsonrpc.Raw(b'{"progress":2}'))
                text = "woken"
            case "big":
                text = "x" * arguments["bytes"]
            case "refuse":
                raise RpcError.of_gateway(REJECTED, "not today", retryAfterMs=1000)
            case "bug":
                raise ZeroDivisionError(" payload".join(["sec", "ret"]), str(params))
            case _:
                raise RpcError.of_gateway(INVALID_PARAMS, "unknown tool")
        return {"content": [{"type": "text", "text": text}], "isError": False}

    @staticmethod
    def _result(exchange: Exchange, content: dict[str, Any]) -> CallResult:
        if exchange.agent.era == "modern":
            content = {"resultType": "complete", **content}
        else:
            content = {key: value for key, value in content.items() if key not in {"ttlMs", "cacheScope"}}
        return CallResult(raw=jsonrpc.encode(content), outcome=Outcome.OK)


@dataclass
class World:
    downstream: Downstream
    pipeline: FakePipeline
    catalog: FakeCatalog
    server: DataPlane
    http: aiohttp.ClientSession
    budget: MemoryBudget
    store: SessionStore
    ended: list[str] = field(default_factory=list)
    """The ids of the sessions that have ended."""
    counted: list[bool] = field(default_factory=list)
    """Whether a session began, for each that began or ended."""
    on_session_end: Callable[[str], Awaitable[None] | None] | None = None
    """Called instead of adding to `ended`."""
    ready: bool = True

    def session_ended(self, session_id: str) -> Awaitable[None] | None:
        return (self.on_session_end or self.ended.append)(session_id)

    @property
    def base(self) -> str:
        scheme = "http" if self.server.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.server.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    async def post(self, body: Any, headers: dict[str, str] | None = None, path: str = "/mcp") -> "Answer":
        """POST a JSON body (bytes as they are); the answer read whole."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        async with self.http.post(self.base + path, data=io.BytesIO(data), headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def modern(self, method: str, params: dict[str, Any] | None = None, request_id: Any = 1) -> "Answer":
        """POST a well-formed modern request."""
        headers, body = modern_request(method, params, request_id)
        return await self.post(body, headers)

    async def initialize(self, name: str = "tester", version: str = "2025-11-25", **headers: str) -> dict[str, str]:
        """Open a legacy session; returns the headers of its later requests."""
        answer = await self.post(initialize_request(name, version), headers)
        assert answer.status == 200, answer.body
        session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": version, **headers}
        done = await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        assert done.status == 202
        return session

    async def raw_post(self, body: Any, headers: list[tuple[str, str]]) -> bytes:
        """POST a JSON body with exactly these headers, given twice or not."""
        payload = json.dumps(body).encode()
        all_headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(payload))),
            ("Connection", "close"),
            *headers,
        ]
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_headers)
        return await self.raw(f"POST /mcp HTTP/1.1\r\n{lines}\r\n".encode() + payload)

    async def raw(self, data: bytes, *, read_for: float = 5.0) -> bytes:
        """Send bytes on a socket of their own, read until the server closes or `read_for` seconds are over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(data)
        received = b""
        try:
            async with asyncio.timeout(read_for):
                while chunk := await reader.read(65536):
                    received += chunk
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
        return received


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The messages of an event stream."""
        lines = self.body.decode().splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def initialize_request(name: str = "tester", version: str = "2025-11-25") -> dict[str, Any]:
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
    return {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}


def modern_request(
    method: str, params: dict[str, Any] | None = None, request_id: Any = 1, version: str = "2026-07-28"
) -> tuple[dict[str, str], dict[str, Any]]:
    params = dict(params or {})
    meta = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "modern", "version": "1"},
        **params.pop("_meta", {}),
    }
    headers = {"MCP-Protocol-Version": version, "Mcp-Method": method}
    name = params.get("name", params.get("uri"))
    if name is not None:
        headers["Mcp-Name"] = name
    return headers, {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {**params, "_meta": meta}}


def downstream_for(
    config: ProxyConfig, ended: list[str] | None = None, counted: list[bool] | None = None
) -> tuple[Downstream, FakePipeline, FakeCatalog]:
    """The agents' side over the small pipeline. `ended`, `counted`: as the fields of `World`."""
    counts = [] if counted is None else counted
    catalog = FakeCatalog()
    pipeline = FakePipeline(catalog)
    downstream = Downstream(
        config,
        budget=MemoryBudget(),
        pipeline=pipeline,
        catalog=catalog,
        store=store_for(config),
        events=SessionEvents(
            ([] if ended is None else ended).append, counted=lambda key, owner, open_: counts.append(open_)
        ),
        authenticators=Chain([]).authenticators,
        ready=lambda: True,
    )
    return downstream, pipeline, catalog


def store_for(config: ProxyConfig) -> InMemorySessions:
    limits = config.limits
    return InMemorySessions(limits.sessions, limits.sessions_per_principal, limits.session_idle)


Start = Callable[..., Awaitable[World]]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine makes no streams of silent calls; the tests of that set their own time."""
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 60.0)


@pytest.fixture
def helpers() -> Any:
    """The builders of requests, for tests that need them apart from a world."""

    class Helpers:
        initialize = staticmethod(initialize_request)
        modern = staticmethod(modern_request)
        downstream = staticmethod(downstream_for)

    return Helpers


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[World]:
    limits = LimitsConfig(**settings.pop("limits", {}))
    store, plugins = settings.pop("store", None), settings.pop("authenticators", ())
    pages, kept = settings.pop("pages", None), settings.pop("kept", None)
    config = ProxyConfig(limits=limits, **settings)
    catalog, budget = FakeCatalog(), MemoryBudget()
    pipeline = FakePipeline(catalog)
    store = store_for(config) if store is None else store

    def ended(session_id: str) -> Awaitable[None] | None:
        return world.session_ended(session_id)

    downstream = Downstream(
        config,
        budget=budget,
        pipeline=pipeline,
        catalog=catalog,
        store=store,
        events=SessionEvents(ended, counted=lambda key, owner, open_: world.counted.append(open_)),
        authenticators=Chain([configured(each) for each in plugins]).authenticators,
        ready=lambda: world.ready,
        pages=pages,
        kept=kept,
    )
    server = downstream.http_server()
    await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as http:
        world = World(downstream, pipeline, catalog, server, http, budget, store)
        try:
            yield world
        finally:
            await server.close(0.0)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start worlds with settings of the test's own. `authenticators`: plugins; `store`: the session store; `pages`."""
    stack: list[Any] = []

    async def begin(**settings: Any) -> World:
        context = running(**settings)
        world = await context.__aenter__()
        stack.append(context)
        return world

    yield begin
    for context in reversed(stack):
        await context.__aexit__(None, None, None)


@pytest.fixture
async def world(start: Start) -> World:
    return await start()


@pytest.fixture
async def sse_world(start: Start) -> World:
    return await start(transport="sse")
