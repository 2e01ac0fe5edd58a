"""An MCP server that asks in the middle of its calls, written with the official SDK, in the way of its client's era.

Over stdio, or with `--http` over Streamable HTTP on a free port, which it prints. `--legacy-only` knows no modern
requests. What it was asked to do, what it finished and what was cancelled is told by its tool `journal`.
"""

import asyncio
import json
import os
import socket
import sys
import threading
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import UrlElicitationRequiredError
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
)

server = MCPServer("asker", version="1.0.0", log_level="ERROR")
journal: dict[str, list[str]] = {"begun": [], "finished": [], "cancelled": []}
SCHEMA: Any = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def modern(ctx: Context) -> bool:
    return ctx.protocol_version is not None and ctx.protocol_version >= "2026"


def form(message: str) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=SCHEMA))


def sample(text: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=50))


async def elicited(ctx: Context, message: str) -> str:
    answer = await ctx.session.elicit_form(message, SCHEMA, related_request_id=ctx.request_id)
    return said(answer)


async def sampled(ctx: Context, text: str) -> str:
    message = SamplingMessage(role="user", content=TextContent(type="text", text=text))
    return said(await ctx.session.create_message([message], max_tokens=50, related_request_id=ctx.request_id))


def said(answer: Any) -> str:
    if isinstance(answer, ElicitResult):
        return str((answer.content or {}).get("name")) if answer.action == "accept" else answer.action
    if isinstance(answer, CreateMessageResult):
        return str(getattr(answer.content, "text", ""))
    if isinstance(answer, ListRootsResult):
        return ",".join(str(root.uri) for root in answer.roots)
    return f"? {answer!r}"


@server.tool()
def add(a: int, b: int) -> int:
    """A call that asks nothing."""
    return a + b


@server.tool()
async def greet(ctx: Context, who: str, rounds: int = 1, dwell: float = 0.0) -> str | InputRequiredResult:
    """Ask `rounds` times for a name, one after the other; then (legacy) think for `dwell` seconds."""
    if not modern(ctx):
        journal["begun"].append(who)
        try:
            names = [await elicited(ctx, f"{who}, name {number}?") for number in range(1, rounds + 1)]
            await asyncio.sleep(dwell)
        except asyncio.CancelledError:
            journal["cancelled"].append(who)
            raise
        journal["finished"].append(who)
        return f"{who}: {' '.join(names)}"
    names = json.loads(ctx.request_state) if ctx.request_state else []
    answer = (ctx.input_responses or {}).get("name")
    if ctx.request_state is None:
        journal["begun"].append(who)
    elif answer is not None:
        names.append(said(answer))
    if len(names) == rounds:
        journal["finished"].append(who)
        return f"{who}: {' '.join(names)}"
    return InputRequiredResult(
        input_requests={"name": form(f"{who}, name {len(names) + 1}?")}, request_state=json.dumps(names)
    )


@server.tool()
async def all_at_once(ctx: Context, who: str) -> str | InputRequiredResult:
    """Elicit, sample and list roots at the same time."""
    if not modern(ctx):
        answers = await asyncio.gather(
            elicited(ctx, f"{who}?"), sampled(ctx, f"think of {who}"), ctx.session.list_roots()
        )
        return f"{who}: {answers[0]} {answers[1]} {said(answers[2])}"
    found = ctx.input_responses or {}
    if len(found) < 3:
        return InputRequiredResult(
            input_requests={"e": form(f"{who}?"), "s": sample(f"think of {who}"), "r": ListRootsRequest()}
        )
    return f"{who}: {said(found['e'])} {said(found['s'])} {said(found['r'])}"


@server.tool()
async def think(ctx: Context, text: str) -> str | InputRequiredResult:
    """Sample once."""
    if not modern(ctx):
        return await sampled(ctx, text)
    answer = (ctx.input_responses or {}).get("s")
    return said(answer) if answer is not None else InputRequiredResult(input_requests={"s": sample(text)})


opened: set[str] = set()


@server.tool()
def needs_url(ctx: Context, who: str) -> str:
    """Legacy: a URL has to be opened before (the second call counts as that)."""
    if who in opened:
        return f"{who} was there"
    opened.add(who)
    raise UrlElicitationRequiredError(
        [ElicitRequestURLParams(mode="url", message="open it", url="https://example.com/x", elicitation_id=who)]
    )


@server.prompt()
async def brief(ctx: Context) -> str:
    """A prompt that asks (legacy)."""
    return f"a brief for {await elicited(ctx, 'audience?')}"


@server.tool(name="journal")
def tell() -> str:
    """What happened so far."""
    return json.dumps(journal)


class LegacyOnly:
    """Answers modern requests over HTTP as a server of 2025 does."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if dict(scope.get("headers") or []).get(b"mcp-protocol-version") == b"2026-07-28":
            body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request"}}'
            head = {"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]}
            await send(head)
            await send({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send)


def refuse_modern_lines() -> None:
    """Answer `server/discover` on stdin as a server of 2025 does, and let everything else through."""
    ours, theirs = os.pipe()
    source = os.fdopen(os.dup(0), "rb")
    os.dup2(ours, 0)

    def copy() -> None:
        with os.fdopen(theirs, "wb", buffering=0) as through:
            for line in source:
                if b'"server/discover"' in line:
                    error = {"code": -32601, "message": "Method not found"}
                    answer = {"jsonrpc": "2.0", "id": json.loads(line)["id"], "error": error}
                    os.write(1, json.dumps(answer).encode() + b"\n")
                else:
                    if b'"notifications/roots/list_changed"' in line:
                        journal["begun"].append("other roots")
                    through.write(line)

    threading.Thread(target=copy, daemon=True).start()


def main() -> None:
    legacy_only = "--legacy-only" in sys.argv
    if "--http" not in sys.argv:
        if legacy_only:
            refuse_modern_lines()
        server.run("stdio")
        return
    app: Any = server.streamable_http_app()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(LegacyOnly(app) if legacy_only else app, log_level="error", timeout_graceful_shutdown=0)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
