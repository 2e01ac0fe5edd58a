"""An MCP server written with the official SDK, over Streamable HTTP on a free port, which it prints.

`--legacy-only` refuses modern requests the way servers did that never heard of them. `--json` answers without
streams, `--stateless` without sessions. `--resumable` keeps events, so that streams can be resumed.
"""

import asyncio
import json
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.streamable_http import EventStore

server = MCPServer("http-fixture", version="1.2.3", instructions="Add numbers.", log_level="ERROR")
executed: list[str] = []
cancelled: list[str] = []


class Events(EventStore):
    """Everything that was sent, in order."""

    def __init__(self) -> None:
        self._events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: Any, message: Any) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: Any, send_callback: Any) -> Any:
        from mcp.server.streamable_http import EventMessage

        stream_id = self._events[int(last_event_id) - 1][0]
        for number, (stream, message) in enumerate(list(self._events), start=1):
            if number > int(last_event_id) and stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    executed.append("add")
    return a + b


@server.tool(name="größe")
def size(text: str) -> int:
    """A name that is no plain ASCII."""
    return len(text)


@server.tool()
async def steps(ctx: Context, count: int, pause: float = 0.0) -> str:
    """Report progress, then answer."""
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"step {step}")
        await asyncio.sleep(pause)
    return "done"


@server.tool()
async def wait(seconds: float, label: str) -> str:
    """Wait; remember being cancelled."""
    executed.append(label)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        cancelled.append(label)
        raise
    return "waited"


@server.tool()
async def change(ctx: Context) -> str:
    """Say that the tools have changed."""
    await ctx.notify_tools_changed()
    if ctx.protocol_version is None or ctx.protocol_version < "2026":
        await ctx.session.send_tool_list_changed()
    return "changed"


@server.tool()
async def ping_client(ctx: Context) -> str:
    """Send a request to the client while the call runs (legacy only)."""
    await ctx.session.send_ping()
    try:
        await ctx.session.list_roots()
    except Exception as error:
        return f"pinged, and roots gave {type(error).__name__}: {error}"
    return "pinged, and got roots"


@server.tool()
async def drop_stream(ctx: Context, label: str) -> str:
    """Close the stream of this very call, so that the client has to come back for the answer."""
    await asyncio.sleep(0.05)  # the stream's first event has to be out
    await ctx.close_sse_stream()
    await asyncio.sleep(0.3)
    executed.append(label)
    return "after all"


@server.tool()
def seen_headers(ctx: Context) -> str:
    """The headers of this call."""
    return json.dumps(dict(ctx.headers or {}))


@server.tool()
def journal() -> str:
    """What ran and what was cancelled."""
    return json.dumps({"executed": executed, "cancelled": cancelled})


@server.resource("memo://greeting")
def greeting() -> str:
    """A resource."""
    return "hello"


class LegacyOnly:
    """Answers modern requests as a server of 2025 does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers") or [])
        if headers.get(b"mcp-protocol-version") == b"2026-07-28":
            body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request"}}'
            start = {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]}
            await send(start)
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)


def main() -> None:
    flags = set(sys.argv[1:])
    app: Any = server.streamable_http_app(
        json_response="--json" in flags,
        stateless_http="--stateless" in flags,
        event_store=Events() if "--resumable" in flags else None,
        retry_interval=50 if "--resumable" in flags else None,
    )
    if "--legacy-only" in flags:
        app = LegacyOnly(app)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # from now on connections wait until the server takes them
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])


main()
