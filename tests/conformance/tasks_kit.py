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

from gateway_core.chain import LoadedPlugin
from gateway_core.config import load
from gateway_core.gateway import Gateway

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
        self.tasks[task_id] |= {"status": "input_required", "inputRequests": QUESTION}


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
        server = MCPServer(self.name, version="1", extensions=[self.extension, *self.apps])

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
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        message = json.loads(body) if body else {}
        self.seen.append((headers, message))
        if self.legacy and headers.get("mcp-protocol-version") == MODERN:
            await answer(send, 400, b"never heard of it", b"text/plain")
            return
        if message.get("method") in self.wire:
            result = self.wire[message["method"]]
            raw = result if isinstance(result, bytes) else json.dumps(result).encode()
            reply = b'{"jsonrpc":"2.0","id":%d,"result":%b}' % (message["id"], raw)
            await answer(send, 200, reply, b"application/json")
            return
        told = False

        async def replay() -> Any:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

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


async def answer(send: Any, status: int, body: bytes, kind: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


# -- agents -------------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """One modern agent that takes tasks, unless `extensions` says otherwise. Its name makes its principal."""

    stand: "Stand"
    name: str = "mine"
    extensions: tuple[str, ...] = (TASKS,)

    async def ask(self, method: str, params: Any = None, **headers: str | None) -> Any:
        """The JSON-RPC response to a well-formed request, but for `headers`; None leaves one out."""
        params = dict(params or {})
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": self.name, "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {name: {} for name in self.extensions}},
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        sent: dict[str, str | None] = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        sent["Mcp-Name"] = params.get("taskId", params.get("name"))
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.stand.post(body, {name: value for name, value in sent.items() if value is not None})

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
    """Starts a gateway over labs, running ones included: `await start(Lab("a"), Lab("b"), proxy="lines of TOML")`."""
    async with AsyncExitStack() as stack:

        async def begin(*labs: Lab, proxy: str = "", plugin: object = None) -> Stand:
            for lab in labs:
                if not lab.url:
                    await stack.enter_async_context(lab.running())
            tables = [
                f'[[mcp.proxy.upstreams]]\nname = "{lab.name}"\ntransport = "http"\nurl = "{lab.url}"\n' for lab in labs
            ]
            path = tmp_path / "gateway.toml"
            path.write_text(f"[mcp.proxy]\nport = {free_port()}\nreplicas = 'declared'\n{proxy}\n" + "".join(tables))
            if plugin is not None:
                import gateway_core.plugins

                own = LoadedPlugin("own", plugin, "1", "d", (), "reject", frozenset(getattr(plugin, "methods", ())))
                real = gateway_core.plugins.load
                monkeypatch.setattr(gateway_core.plugins, "load", lambda *given: (own, *real(*given)))
            gateway = Gateway(load(path))
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            await gateway.wait_first_discovery(20)
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Stand(gateway, http, list(labs))

        yield begin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
