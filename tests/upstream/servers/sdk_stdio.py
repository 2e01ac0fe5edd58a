"""A server of both eras on stdio, written with the official SDK."""

import asyncio

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("sdk-stdio", version="1.2.3")
stopped: list[str] = []


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


@server.tool()
def echo(text: str) -> str:
    return text


@server.tool()
async def count(to: int, context: Context) -> str:
    for step in range(1, to + 1):
        await context.report_progress(step, to)
        await asyncio.sleep(0.01)
    return f"counted to {to}"


@server.tool()
async def sleep(seconds: float, tag: str) -> str:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        stopped.append(tag)
        raise
    return tag


@server.tool()
async def change_tools(context: Context) -> str:
    await context.notify_tools_changed()
    return "changed"


@server.tool()
def stopped_calls() -> str:
    return ",".join(stopped)


if __name__ == "__main__":
    server.run("stdio")
