"""A server on the official SDK with three tools: over stdio, or over HTTP with the argument `http`.

Over HTTP it prints its URL first. It keeps nothing between calls, so tests may share it."""

import asyncio
import socket
import sys

from mcp.server import MCPServer

server = MCPServer("calculator", version="1.0")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "at last"


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("on purpose")


def serve() -> None:
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1:] == ["http"]:
        serve()
    else:
        server.run("stdio")
