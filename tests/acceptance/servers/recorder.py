"""A server of the official SDK that writes down every call it executes, so that a test can count them.

Arguments: name, port, journal file, and `legacy` to turn away modern requests as servers of that era do.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer

NAME, PORT, JOURNAL = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
LEGACY = sys.argv[4:] == ["legacy"]

server = MCPServer(NAME)


def note(line: str) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(line + "\n")


@server.tool()
async def record(call_id: str) -> str:
    """Note the id before and after a little work, and say who did it."""
    note(f"begin {call_id}")
    await asyncio.sleep(0.01)
    note(f"end {call_id}")
    return NAME


@server.tool()
async def slow(call_id: str, seconds: float, until: str = "") -> str:
    """Work for a while, or until the file `until` exists."""
    note(f"begin {call_id}")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not (until and Path(until).exists()):
                await asyncio.sleep(0.02 if until else seconds)
    note(f"end {call_id}")
    return NAME


@server.tool()
async def repeat(text: str, times: int) -> str:
    """Say something as often as that."""
    return text * times


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


listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", PORT))
app: Any = server.streamable_http_app()
uvicorn.Server(uvicorn.Config(legacy_only(app) if LEGACY else app, log_level="error")).run(sockets=[listener])
