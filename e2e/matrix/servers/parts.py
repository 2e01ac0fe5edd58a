"""What the FastMCP servers of the matrix have in common, for version 3 as for version 4.

Each of them offers one of everything, so that a missing answer is never for want of a tool to ask. Run as
`python fastmcp4.py` over stdio, or `python fastmcp4.py PORT` over Streamable HTTP at `/mcp`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from fastmcp import Context, FastMCP


def register(server: FastMCP[Any]) -> None:
    """The tools, the resource, the template and the prompt that need no word with the client."""

    @server.tool
    def add(a: int, b: int) -> int:
        """Two numbers added."""
        return a + b

    @server.tool
    async def count(steps: int, ctx: Context) -> str:
        """Counts, and reports each step."""
        for step in range(1, steps + 1):
            await ctx.report_progress(step, steps)
            # Not all at once with the answer: `drops_progress` in `clients.py` tells why.
            await asyncio.sleep(0.1)
        return f"counted to {steps}"

    @server.tool
    async def tell(ctx: Context) -> str:
        """Sends a log message."""
        await ctx.info("a word to the log")
        return "told"

    @server.resource("notes://today")
    def today() -> str:
        """A note."""
        return "Water the plants."

    @server.resource("notes://of/{name}")
    def note(name: str) -> str:
        """A note of somebody."""
        return f"A note of {name}."

    @server.prompt
    def greet(name: str) -> str:
        """A greeting."""
        return f"Say hello to {name}."


def run(server: FastMCP[Any]) -> None:
    """Serve as the command line says."""
    if len(sys.argv) > 1:
        server.run(transport="http", host="127.0.0.1", port=int(sys.argv[1]), show_banner=False, log_level="error")
    else:
        server.run(transport="stdio", show_banner=False, log_level="error")
