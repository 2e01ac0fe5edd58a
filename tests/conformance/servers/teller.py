"""A server of the official SDK that tells things: changed resources, log messages, progress. It keeps a journal.

Arguments: name, journal file, transport (a port, or `stdio`), and flags: `legacy` turns modern requests away as
servers of that era do, `deaf` offers no subscriptions.
"""

import asyncio
import json
import socket
import sys
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from mcp.shared.message import SessionMessage

NAME, JOURNAL, TRANSPORT, FLAGS = sys.argv[1], Path(sys.argv[2]), sys.argv[3], set(sys.argv[4:])
URIS = [f"memo://{NAME}/one", f"memo://{NAME}/two", f"memo://{NAME}/folder", "file:///shared"]
TOOLS = ["touch", "log", "later", "storm", "wait", "complete"]

warnings.simplefilter("ignore")
bus = InMemorySubscriptionBus()
listening = ListenHandler(bus)
subscribed: dict[str, list[Any]] = {}
subscribers: dict[int, Any] = {}


def note(**entry: Any) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(json.dumps(entry) + "\n")


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    schema = {"type": "object"}
    return types.ListToolsResult(tools=[types.Tool(name=f"{NAME}_{tool}", input_schema=schema) for tool in TOOLS])


async def list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
    # A title of its own, so that two servers' file:///shared are not one resource.
    return types.ListResourcesResult(resources=[types.Resource(uri=uri, name=f"{NAME} {uri}") for uri in URIS])


async def read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
    contents = types.TextResourceContents(uri=params.uri, text=f"{params.uri} of {NAME}")
    return types.ReadResourceResult(contents=[contents])


async def subscribe(ctx: Any, params: Any) -> types.EmptyResult:
    note(subscribe=str(params.uri))
    if str(params.uri).endswith("/two") and "picky" in FLAGS:
        raise ValueError("not this one")
    subscribed.setdefault(str(params.uri), []).append(ctx.session)
    return types.EmptyResult()


async def unsubscribe(ctx: Any, params: Any) -> types.EmptyResult:
    note(unsubscribe=str(params.uri))
    subscribed.pop(str(params.uri), None)
    return types.EmptyResult()


async def listen(ctx: Any, params: Any) -> Any:
    wanted = params.notifications.model_dump(by_alias=True, exclude_none=True, mode="json")
    note(listen=wanted)
    try:
        return await listening(ctx, params)
    finally:
        note(unlisten=wanted)


async def set_level(ctx: Any, params: Any) -> types.EmptyResult:
    note(level=params.level)
    return types.EmptyResult()


async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
    given = params.arguments or {}
    match params.name.removeprefix(f"{NAME}_"):
        case "touch":
            uri = given["uri"]
            await bus.publish(ResourceUpdated(uri))
            everyone = [session for sessions in subscribed.values() for session in sessions]
            for session in everyone[:1] if TRANSPORT == "stdio" else everyone:
                await session.send_resource_updated(uri)
        case "log":
            related = None if given.get("unrelated") else ctx.request_id
            for number in range(given.get("count", 1)):
                await ctx.session.send_log_message(given["level"], f"{given['text']} {number}", None, related)
        case "storm":
            for step in range(given["count"]):
                await ctx.session.report_progress(step + 1, given["count"])
        case "wait":
            note(waiting=given["label"])
            try:
                await asyncio.sleep(given["seconds"])
            except BaseException:
                note(cancelled=given["label"])
                raise
    return types.CallToolResult(content=[types.TextContent(text="done")])


handlers: dict[str, Any] = {"on_set_logging_level": set_level}
if "deaf" not in FLAGS:
    handlers |= {"on_subscribe_resource": subscribe, "on_unsubscribe_resource": unsubscribe}
    if "legacy" not in FLAGS:
        handlers["on_subscriptions_listen"] = listen
server: Any = Server(
    NAME,
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_read_resource=read_resource,
    **handlers,
)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Scope]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]


def legacy_only(app: App) -> App:
    async def wrapped(scope: Scope, receive: Any, send: Any) -> None:
        if (b"mcp-protocol-version", b"2026-07-28") in scope.get("headers", ()):
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"Bad Request: unsupported protocol version"})
            return
        await app(scope, receive, send)

    return wrapped


async def serve_stdio() -> None:
    async with stdio_server() as (read, write), anyio.create_task_group() as group:
        known, kept = anyio.create_memory_object_stream[Any](0)

        async def turn_modern_away() -> None:
            async with known:
                async for item in read:
                    request = getattr(item, "message", None)
                    if "legacy" in FLAGS and getattr(request, "method", "") == "server/discover":
                        error = types.ErrorData(code=-32601, message="Method not found")
                        refusal = types.JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
                        await write.send(SessionMessage(refusal))
                    else:
                        await known.send(item)

        group.start_soon(turn_modern_away)
        await server.run(kept, write, server.create_initialization_options())


if TRANSPORT == "stdio":
    asyncio.run(serve_stdio())
else:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(TRANSPORT)))
    app: Any = server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(legacy_only(app) if "legacy" in FLAGS else app, log_level="error")).run(
        sockets=[listener]
    )
