"""A server on stdio, on the official SDK, that files in a folder control.

`gated.py NAME FOLDER` writes a line to `NAME.starts` at each start, and then waits while `NAME.gate` exists. If
`NAME.broken` exists, it exits. `NAME.tools` has the names of its tools, one a line, and `NAME.version` its version.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

name, folder = sys.argv[1], Path(sys.argv[2])


def content(kind: str, default: str) -> str:
    path = folder / f"{name}.{kind}"
    return path.read_text() if path.exists() else default


with (folder / f"{name}.starts").open("a") as starts:
    starts.write(f"{os.getpid()}\n")
while (folder / f"{name}.gate").exists():
    time.sleep(0.02)
if (folder / f"{name}.broken").exists():
    sys.exit("cannot open the database")

from mcp.server.mcpserver import MCPServer  # noqa: E402 - loads slowly

server = MCPServer(name, version=content("version", "1.0.0"), log_level="ERROR")


def pid() -> str:
    """The id of this process."""
    return str(os.getpid())


async def wait(seconds: float) -> str:
    """Answer after a while."""
    await asyncio.sleep(seconds)
    return "waited"


for tool in content("tools", "pid\nwait").split():
    server.add_tool(wait if tool == "wait" else pid, name=f"{name}_{tool}", description="A tool.")

if __name__ == "__main__":
    server.run("stdio")
