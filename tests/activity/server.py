"""A server on stdio, on the official SDK: tools that work, fail, wait and report progress."""

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("desk", version="1.0.0", log_level="ERROR")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def fail(text: str) -> str:
    """Fail with a message that quotes the arguments."""
    raise ValueError(text)


@server.tool()
async def wait(ctx: Context, seconds: float) -> str:
    """Report progress, and answer after a while."""
    for step in range(3):
        await ctx.report_progress(step + 1, 3, "payload-of-progress")
    await asyncio.sleep(seconds)
    return "waited"


@server.tool()
def grumble(text: str) -> str:
    """Write to stderr."""
    print(text, file=sys.stderr, flush=True)
    return "done"


if __name__ == "__main__":
    server.run("stdio")
