"""Gateways over servers of the official SDK that make tasks (SEP-2663), and agents that follow them.

The servers' extension mints the ids `t1`, `t2`, … on each of them.
"""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from mcp import MCPError
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.server import require_client_extension
from mcp_types import Notification, RequestParams

from gateway_core.config import load
from gateway_core.gateway import Gateway
from gateway_core.hooks import LoadedPlugin
from tests.ports import free_port

from .asgi import answer, body_of, replayed

TASKS = "io.modelcontextprotocol/tasks"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
METHODS = ["tasks/get", "tasks/update", "tasks/cancel"]
QUESTION = {"name": {"method": "elicitation/create", "params": {"mode": "form", "message": "Your name?"}}}
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


# -- upstreams ----------------------------------------------------------------------------------------------------


class TaskParams(RequestParams):
    task_id: str


class UpdateParams(TaskParams):
    input_responses: dict[str, Any]


class TaskExtension(Extension):
    """Makes a task of each call of `work`; it asks for a name, and is completed by the answer."""

    identifier = TASKS

    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        self.unheard: set[str] = set()
        """Ids that no subscription is accepted for."""
        self.listeners: list[Listener] = []
        """All there ever were."""

    def methods(self) -> list[MethodBinding]:
        return [
            MethodBinding("tasks/get", TaskParams, self.get),
            MethodBinding("tasks/update", UpdateParams, self.update),
            MethodBinding("tasks/cancel", TaskParams, self.cancel),
        ]

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
        match params.name:
            case "must_be_a_task":
                require_client_extension(ctx, TASKS)
            case "work":
                declared = ctx.session.client_capabilities.extensions or {}
                if TASKS not in declared:
                    return await call_next(ctx)
            case "rogue":
                pass
            case _:
                return await call_next(ctx)
        return {"resultType": "task", **self.created()}

    def created(self) -> dict[str, Any]:
        task_id = f"t{len(self.tasks) + 1}"
        when = "2026-07-28T10:00:00Z"
        task = {"taskId": task_id, "status": "working", "createdAt": when, "lastUpdatedAt": when, "ttlMs": None}
        self.tasks[task_id] = task
        return task

    def _task(self, params: TaskParams) -> dict[str, Any]:
        if params.task_id not in self.tasks:
            raise MCPError(-32602, "Failed to retrieve task: Task not found")
        return self.tasks[params.task_id]

    async def get(self, ctx: Any, params: TaskParams) -> Any:
        return self._task(params)

    async def update(self, ctx: Any, params: UpdateParams) -> Any:
        name = params.input_responses["name"]["content"]["name"]
        result = {"content": [{"type": "text", "text": f"Hello, {name}"}], "isError": False}
        self._task(params).update(status="completed", result=result)
        return {}

    async def cancel(self, ctx: Any, params: TaskParams) -> Any:
        self._task(params)["status"] = "cancelled"
        return {}

    def ask(self, task_id: str) -> None:
        self.change(task_id, status="input_required", inputRequests=QUESTION)

    def change(self, task_id: str, **members: Any) -> None:
        """Change a task, and tell those who listen to it."""
        self.tasks[task_id] |= members
        for listener in self.listeners:
            if task_id in listener.accepted:
                listener.say(self.tasks[task_id])

    async def listen(self, ctx: Any, call_next: Any) -> Any:
        """Middleware: the SDK's own handler does not know tasks."""
        wanted = (ctx.params or {}).get("notifications", {}).get("taskIds")
        if ctx.method != "subscriptions/listen" or wanted is None:
            return await call_next(ctx)
        require_client_extension(ctx, TASKS)
        listener = Listener([task_id for task_id in wanted if task_id in self.tasks.keys() - self.unheard])
        self.listeners.append(listener)
        await listener.serve(ctx)
        return {}


class Listener:
    """One subscription to the status of tasks."""

    def __init__(self, accepted: list[str]) -> None:
        self.accepted = accepted
        self.ended = asyncio.Event()
        """Set when its client has gone, or it was told to end."""
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    def say(self, task: dict[str, Any]) -> None:
        self._queue.put_nowait(dict(task))

    def end(self) -> None:
        self._queue.put_nowait(None)

    async def serve(self, ctx: Any) -> None:
        async def send(method: str, params: dict[str, Any]) -> None:
            params["_meta"] = {SUBSCRIPTION: ctx.request_id, "com.example/kept": 1}
            told = Notification[dict[str, Any], str](method=method, params=params)
            await ctx.session.send_notification(told, related_request_id=ctx.request_id)

        try:
            await send("notifications/subscriptions/acknowledged", {"notifications": {"taskIds": self.accepted}})
            while (task := await self._queue.get()) is not None:
                await send("notifications/tasks", task)
        finally:
            self.ended.set()


class Apps(Extension):
    """Announces settings and does nothing."""

    def __init__(self, identifier: str, **settings: Any) -> None:
        self.identifier, self._settings = identifier, settings

    def settings(self) -> dict[str, Any]:
        return self._settings


@dataclass
class Lab:
    """One upstream; `seen` holds the headers and bodies of what reached it, `wire` answers in the server's place."""

    name: str
    apps: list[Apps] = field(default_factory=list)
    legacy: bool = False
    extension: TaskExtension = field(default_factory=TaskExtension)
    seen: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    wire: dict[str, Any] = field(default_factory=dict)
    """Method -> the result object to answer with, or its JSON, whatever the server would say."""
    url: str = ""

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return self.extension.tasks

    def of(self, *methods: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
        return [(headers, body) for headers, body in self.seen if body.get("method") in methods]

    def server(self) -> MCPServer:
        extensions = [self.extension, *self.apps]
        server = MCPServer(self.name, version="1", extensions=extensions, middleware=[self.extension.listen])

        @server.tool(name=f"only_{self.name}")
        def only() -> str:
            """So that the labs differ."""
            return self.name

        for tool in ("work", "rogue", "must_be_a_task"):

            @server.tool(name=tool)
            def work(text: str = "") -> str:
                """Takes long, or not."""
                return f"{self.name} did it at once"

        return server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await body_of(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        message = json.loads(body) if body else {}
        self.seen.append((headers, message))
        if self.legacy and headers.get("mcp-protocol-version") == MODERN:
            await answer(send, 400, b"never heard of it", "text/plain")
            return
        if message.get("method") in self.wire:
            result = self.wire[message["method"]]
            raw = result if isinstance(result, bytes) else json.dumps(result).encode()
            reply = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (message["id"], raw)
            await answer(send, 200, reply)
            return
        await self._app(scope, replayed(body, receive), send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Lab"]:
        self._app = self.server().streamable_http_app()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            server = uvicorn.Server(uvicorn.Config(self, log_level="error", timeout_graceful_shutdown=0))
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            yield self
            server.should_exit = True
            await serving


# -- agents -------------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """One modern agent that takes tasks, unless `extensions` says otherwise. Its name makes its principal."""

    stand: "Stand"
    name: str = "mine"
    extensions: tuple[str, ...] = (TASKS,)

    async def ask(self, method: str, params: Any = None, **headers: str | None) -> Any:
        """The JSON-RPC response to a well-formed request, but for `headers`; None leaves one out."""
        body, sent = self._request(method, dict(params or {}))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.stand.post(body, {name: value for name, value in sent.items() if value is not None})

    def _request(self, method: str, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {name: {} for name in self.extensions}},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if (name := params.get("taskId", params.get("name"))) is not None:
            headers["Mcp-Name"] = name
        return body, headers

    async def call(self, tool: str, **extra: Any) -> Any:
        return await self.ask("tools/call", {"name": tool, "arguments": {}, **extra})

    async def begin(self, tool: str = "work") -> str:
        """Call a tool that makes a task; its id."""
        result = (await self.call(tool))["result"]
        assert (result["resultType"], result["status"]) == ("task", "working")
        return str(result["taskId"])

    async def get(self, task_id: str) -> dict[str, Any]:
        result: dict[str, Any] = (await self.ask("tasks/get", {"taskId": task_id}))["result"]
        assert (result["resultType"], result["taskId"]) == ("complete", task_id)
        return result

    @asynccontextmanager
    async def listen(self, *task_ids: str, **more: Any) -> AsyncIterator["Events"]:
        """Subscribe to the status of tasks; leaving it closes the connection."""
        body, headers = self._request("subscriptions/listen", {"notifications": {"taskIds": task_ids, **more}})
        async with self.stand.http.post(f"{self.stand.gateway.address}/mcp", json=body, headers=headers) as response:
            assert response.status == 200, await response.read()
            yield Events(response)
            response.close()


@dataclass
class Events:
    """A subscription's stream."""

    response: aiohttp.ClientResponse

    async def next(self) -> dict[str, Any]:
        """The next message; empty at the end of the stream."""
        async with asyncio.timeout(10):
            while line := await self.response.content.readline():
                if line.startswith(b"data: "):
                    return dict(json.loads(line.removeprefix(b"data: ")))
        return {}

    async def accepted(self) -> list[str]:
        """The ids that the acknowledgement names."""
        message = await self.next()
        assert message["method"] == "notifications/subscriptions/acknowledged"
        return list(message["params"]["notifications"].get("taskIds", ()))

    async def status(self) -> dict[str, Any]:
        """The next status that is told."""
        message = await self.next()
        assert message["method"] == "notifications/tasks"
        return dict(message["params"])


def about(method: str, task_id: str) -> dict[str, Any]:
    """Params of a request about a task."""
    more = {"inputResponses": {"name": {"action": "accept", "content": {"name": "Ada"}}}}
    return {"taskId": task_id, **(more if method == "tasks/update" else {})}


@dataclass
class Stand:
    gateway: Gateway
    http: aiohttp.ClientSession
    labs: list[Lab]

    @property
    def agent(self) -> Agent:
        return Agent(self)

    async def post(self, body: Any, headers: Any) -> Any:
        payload, kind = io.BytesIO(json.dumps(body).encode()), {"Content-Type": "application/json"}
        async with self.http.post(f"{self.gateway.address}/mcp", data=payload, headers={**kind, **headers}) as response:
            return {"status": response.status, **json.loads(await response.read() or b"{}")}

    async def initialize(self, capabilities: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """Open a legacy session: the headers of its later requests, and the gateway's capabilities."""
        params = {
            "protocolVersion": LEGACY,
            "capabilities": capabilities,
            "clientInfo": {"name": "old", "version": "1"},
        }
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        async with self.http.post(f"{self.gateway.address}/mcp", json=body) as response:
            session = {"Mcp-Session-Id": response.headers["Mcp-Session-Id"], "MCP-Protocol-Version": LEGACY}
            found: dict[str, Any] = (await response.json())["result"]["capabilities"]
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        return session, found


Start = Callable[..., Awaitable[Stand]]


@asynccontextmanager
async def starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts gateways over labs, running ones included: `await start(Lab("a"), Lab("b"), proxy="lines of TOML")`.

    `more`: other tables of the configuration.
    """
    async with AsyncExitStack() as stack:

        async def begin(*labs: Lab, proxy: str = "", more: str = "", plugin: object = None) -> Stand:
            for lab in labs:
                if not lab.url:
                    await stack.enter_async_context(lab.running())
            tables = [
                f'[[mcp.proxy.upstreams]]\nname = "{lab.name}"\ntransport = "http"\nurl = "{lab.url}"\n' for lab in labs
            ]
            path = tmp_path / "gateway.toml"
            path.write_text(
                f"[mcp.proxy]\nport = {free_port()}\nreplicas = 'declared'\n{proxy}\n" + "".join(tables) + more
            )
            if plugin is not None:
                import gateway_core.hooks.loader

                own = LoadedPlugin("own", plugin, "1", "d", (), "reject", frozenset(getattr(plugin, "methods", ())))
                real = gateway_core.hooks.loader.load
                monkeypatch.setattr(gateway_core.hooks.loader, "load", lambda *args, **kw: (own, *real(*args, **kw)))
            gateway = Gateway(load(path))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            await gateway.wait_first_discovery(20)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Stand(gateway, http, list(labs))

        yield begin
