"""An MCP server with users, written with the official SDK, over Streamable HTTP on a free port, which it prints.

`X-User-Id` or a token `up-USER-…` names the user. `--required` answers 401 without the header, `--bearer` without a
valid token. `--legacy` has never heard of modern requests. Every user has a tool of its own, and a legacy session keeps
what it is given.
"""

import json
import socket
import sys
from typing import Any

import mcp_types as types
import uvicorn
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

FLAGS = frozenset(sys.argv[1:])
kept: dict[str, str] = {}
"""Session -> what it was given."""
sessions: dict[str, str] = {}
"""Session -> its user."""
ended: list[str] = []
tokens: list[str] = []
"""Every `Authorization` that was sent."""
revoked: set[str] = set()


def user_of(headers: Any) -> str:
    found = dict(headers or {})
    token = found.get("authorization", "").removeprefix("Bearer ")
    return token.split("-")[1] if token.startswith("up-") else str(found.get("x-user-id", "nobody"))


class Users(MCPServer):
    async def _handle_list_tools(self, ctx: Any, params: Any) -> types.ListToolsResult:
        found = await super()._handle_list_tools(ctx, params)
        if user_of(ctx.request.headers) == "leaky":
            raise MCPError(-32000, f"no tools for {ctx.request.headers.get('x-api-key')}")
        own = types.Tool(name=f"of-{user_of(ctx.request.headers)}", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[*found.tools, own])


server = Users("users", log_level="ERROR")


@server.tool()
def who(ctx: Context) -> str:
    """Who calls, by the headers."""
    headers = {name: value for name, value in dict(ctx.headers or {}).items() if name.startswith("x-")}
    return json.dumps({**headers, "session": dict(ctx.headers or {}).get("mcp-session-id")})


@server.tool()
def headers(ctx: Context) -> str:
    """All headers of the call."""
    return json.dumps(dict(ctx.headers or {}))


@server.tool()
def keep(ctx: Context, text: str) -> str:
    """Keep a text for the session."""
    kept[dict(ctx.headers or {}).get("mcp-session-id", "")] = text
    return "kept"


@server.tool()
def recall(ctx: Context) -> str:
    """The text of the session."""
    return kept.get(dict(ctx.headers or {}).get("mcp-session-id", ""), "nothing")


@server.tool()
def journal() -> str:
    """The sessions and their users, and those that have ended."""
    return json.dumps({"sessions": sessions, "ended": ended})


@server.tool()
def revoke(ctx: Context) -> str:
    """Refuse the token of this call from now on."""
    revoked.add(dict(ctx.headers or {}).get("authorization", ""))
    return "revoked"


@server.tool()
def sent() -> str:
    """Every token that was sent."""
    return json.dumps([token.replace("-", "+") for token in tokens])


class Answer(BaseModel):
    name: str


@server.tool()
async def ask(ctx: Context) -> str:
    """Ask the user of the call."""
    found = await ctx.elicit(f"Are you {user_of(ctx.headers)}?", Answer)
    return json.dumps({"user": user_of(ctx.headers), "answer": found.data.name if found.action == "accept" else None})


@server.tool()
async def slow(ctx: Context, steps: int) -> str:
    """Report progress for the user."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, user_of(ctx.headers))
    return "done"


class Door:
    """Refuses requests without a user, and what is not of the era; notes sessions."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers") or []}
        if scope["type"] == "http" and "--required" in FLAGS and "x-user-id" not in headers:
            await answer(send, 401)
            return
        if scope["type"] == "http" and "--bearer" in FLAGS:
            token = headers.get("authorization", "")
            tokens.append(token)
            if not token.startswith("Bearer up-") or token in revoked:
                await answer(send, 401)
                return
        if scope["type"] == "http" and headers.get("x-user-id") == "refused":
            await answer(send, 403)
            return
        if "--legacy" in FLAGS and headers.get("mcp-protocol-version") == "2026-07-28":
            await answer(send, 400)
            return
        if scope["type"] == "http" and scope["method"] == "DELETE":
            ended.append(headers.get("mcp-session-id", ""))

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                found = dict(message["headers"]).get(b"mcp-session-id")
                if found is not None:
                    sessions.setdefault(found.decode(), user_of(headers))
            await send(message)

        await self._app(scope, receive, noted)


async def answer(send: Any, status: int) -> None:
    body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"refused"}}'
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # from now on connections wait until the server takes them
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(Door(server.streamable_http_app()), log_level="warning", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])


main()
