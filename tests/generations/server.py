"""A server on stdio, on the official SDK, whose name and extra tools its arguments give; it tells its process."""

import asyncio
import os
import sys

from mcp.server.mcpserver import MCPServer

name, *extra = sys.argv[1:]
server = MCPServer(name, version="1.0.0", log_level="ERROR")


@server.tool(name=f"{name}_pid")
def pid() -> str:
    """The id of this process."""
    return str(os.getpid())


@server.tool(name=f"{name}_wait")
async def wait(seconds: float) -> str:
    """Answer after a while."""
    await asyncio.sleep(seconds)
    return "waited"


for one in extra:
    server.add_tool(lambda: "extra", name=one, description="An extra tool.")

if __name__ == "__main__":
    server.run("stdio")
