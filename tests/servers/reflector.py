"""An HTTP server on the official SDK that tells what it was sent: for tests of what reaches an upstream.

It prints its URL first."""

import asyncio
import json
import socket
from typing import Annotated

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ToolAnnotations
from pydantic import Field

server = MCPServer("reflector", version="1.0.0", instructions="reflects")
cancelled: list[str] = []


@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
async def reflect(context: Context, value: object = None) -> str:
    """What arrived: the argument, and `_meta`."""
    meta = context.request_context.meta
    found = meta if isinstance(meta, dict) else meta.model_dump(by_alias=True) if meta is not None else {}
    return json.dumps({"value": value, "meta": found}, default=str)


@server.tool()
async def sleep(seconds: float, tag: str = "") -> str:
    """Sleep, and remember having been cancelled."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        cancelled.append(tag)
        raise
    return tag


@server.tool()
async def steps(count: int, pause: float, context: Context) -> str:
    """Report progress after each pause."""
    for step in range(1, count + 1):
        await asyncio.sleep(pause)
        await context.report_progress(step, count)
    return "done"


@server.tool()
def cancellations() -> str:
    """The tags of the calls that were cancelled."""
    return ",".join(cancelled)


@server.tool()
def weather(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    """A tool with an argument that a header mirrors."""
    return f"sunny in {region}"


@server.tool()
def fail() -> str:
    """A tool's own error."""
    raise ValueError("no good")


@server.resource("note://today")
def today() -> str:
    """A resource."""
    return "sunny"


@server.resource("note://by/{day}")
def by_day(day: str) -> str:
    """A template."""
    return f"weather of {day}"


@server.prompt()
def greet(name: str) -> str:
    """A prompt."""
    return f"Greet {name}"


if __name__ == "__main__":
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])
