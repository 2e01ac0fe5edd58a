"""A server on stdio whose tools take as long as their arguments say."""

from __future__ import annotations

import asyncio

from mcp.server.mcpserver import MCPServer

server = MCPServer("slow", version="1")


@server.tool()
async def wait(seconds: float) -> str:
    """Wait in silence, then answer."""
    await asyncio.sleep(seconds)
    return f"waited {seconds:g} s"


if __name__ == "__main__":
    server.run()
