"""A FastMCP 3 server: it asks its client with requests of its own, in the middle of a call."""

from __future__ import annotations

import mcp.types
from fastmcp import Context, FastMCP
from parts import register, run

server: FastMCP = FastMCP("fastmcp3")
register(server)
added: list[str] = []


@server.tool
async def ask(ctx: Context) -> str:
    """Asks the user for a name."""
    answer = await ctx.elicit("Who are you?", str)
    return f"you are {answer.data}" if answer.action == "accept" else answer.action


@server.tool
async def sample(ctx: Context) -> str:
    """Asks the client's model."""
    answer = await ctx.sample("Name a colour", max_tokens=20)
    return f"the model says {answer.text}"


@server.tool
async def grow(ctx: Context) -> str:
    """Changes the list of tools, and says so."""
    name = f"grown_{len(added)}"
    added.append(name)

    def grown() -> str:
        return "grown"

    server.tool(grown, name=name)
    await ctx.send_notification(mcp.types.ToolListChangedNotification())
    return name


if __name__ == "__main__":
    run(server)
