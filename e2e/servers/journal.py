"""A server of the official SDK that writes down each call that it executes, so that a test can count them.

Arguments: journal file, then `stdio`, or a port and any of `json`, `stateless`, `legacy` (turns modern requests away),
`sse` (the older transport).
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

JOURNAL, WHERE, MODES = sys.argv[1], sys.argv[2], set(sys.argv[3:])
journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
server = MCPServer("journal")


@server.tool()
async def work(call: str, seconds: float, steps: int, size: int, context: Context[Any]) -> str:
    """Note the call, work on it with some progress, and say its name and so many letters."""
    os.write(journal, f"{call}\n".encode())
    for step in range(steps):
        await context.report_progress(step + 1, steps)
        await asyncio.sleep(seconds / steps)
    if not steps:
        await asyncio.sleep(seconds)
    return f"{call} {'x' * size}"


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


def main() -> None:
    if WHERE == "stdio":
        server.run("stdio")
        return
    app: Any = (
        server.sse_app()
        if "sse" in MODES
        else server.streamable_http_app(json_response="json" in MODES, stateless_http="stateless" in MODES)
    )
    uvicorn.run(legacy_only(app) if "legacy" in MODES else app, port=int(WHERE), log_level="error")


main()
