"""A server of the official SDK that returns its secrets in every possible place. Argument: `--http PORT`, or none
for stdio."""

import os
import sys
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

ENV = os.environ.get("API_TOKEN", "nothing")
server = MCPServer("telltale", instructions=f"uses {ENV}")


@server.tool(description=f"tells {ENV} and {sys.argv!r}")
async def tell(context: Context) -> dict[str, str]:
    """Everything, also in a log message and in progress."""
    await context.report_progress(1, 2, f"with {ENV}")
    headers = context.request_context.request
    shown = {} if headers is None else dict(headers.headers)
    return {"env": ENV, "argv": repr(sys.argv), "headers": repr(shown), ENV: "as a key"}


@server.tool()
def read(path: str) -> str:
    """A file, as a server of files would."""
    return Path(path).read_text()


@server.tool()
def fail() -> str:
    """An error that quotes it."""
    raise ValueError(f"cannot log in with {ENV} or {sys.argv!r}")


@server.resource("note://token")
def token() -> str:
    """It as a resource."""
    return ENV


print(f"starting with {ENV!r} {ENV[:9]}\n{ENV[9:]}", file=sys.stderr, flush=True)
if sys.argv[1:2] == ["--http"]:
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
else:
    server.run()
