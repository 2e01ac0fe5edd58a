"""An MCP server of one era whose state of each user a test decides: its notifications, and where it redirects to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
URI = "note://shared"


@dataclass
class PrivateServer:
    """`X-User-Id` or a token `up-USER-…` names the user; empty for the gateway."""

    era: str
    origin: str = ""
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """User, method (or HTTP verb) and headers of each request."""
    streams: list[tuple[str, Any, web.StreamResponse]] = field(default_factory=list)
    """User, id of the listen request (None for a legacy stream), and the stream."""
    subscribed: list[str] = field(default_factory=list)
    """The users of legacy subscriptions."""
    redirects: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Method or HTTP verb -> status and location of its redirect; for requests of users alone."""

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    def of(self, method: str) -> list[str]:
        """The users of the requests with a method."""
        return [user for user, asked, _ in self.seen if asked == method]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer up-")
        user = headers.get("x-user-id") or token.partition("-")[0]
        message = json.loads(await request.read() or b"{}")
        method = message.get("method", request.method)
        self.seen.append((user, method, headers))
        if user and method in self.redirects:
            status, location = self.redirects[method]
            return web.Response(status=status, headers={"Location": location})
        if self.era == "legacy" and headers.get("mcp-protocol-version") == "2026-07-28":
            return web.Response(status=400)
        if method in ("GET", "subscriptions/listen"):
            return await self._stream(request, user, message)
        if method == "DELETE" or "id" not in message:
            return web.Response(status=202)
        if method == "resources/subscribe":
            self.subscribed.append(user)
        about = {"capabilities": {"tools": {}, "resources": {"subscribe": True}}}
        results: dict[str, dict[str, Any]] = {
            "server/discover": {"supportedVersions": ["2026-07-28"], **about},
            "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "s", "version": "1"}, **about},
            "tools/list": {"tools": [{"name": "who", "inputSchema": {"type": "object"}}]},
            "resources/list": {"resources": [{"uri": URI, "name": "shared"}]},
            "resources/templates/list": {"resourceTemplates": []},
            "resources/read": {"contents": [{"uri": URI, "text": user}]},
            "tools/call": {"content": [{"type": "text", "text": user}]},
        }
        extra = {"Mcp-Session-Id": f"session-{len(self.seen)}"} if method == "initialize" else {}
        result = {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "public", **results.get(method, {})}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=extra)

    async def _stream(self, request: web.BaseRequest, user: str, message: dict[str, Any]) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        entry = (user, message.get("id"), stream)
        if "id" in message:
            await self._send(entry, ACKNOWLEDGED, {"notifications": message["params"]["notifications"]})
        self.streams.append(entry)
        try:
            await asyncio.Event().wait()
        finally:
            self.streams.remove(entry)
        return stream

    async def update(self, user: str) -> None:
        """Announce a change of the resource to one user."""
        for entry in [it for it in self.streams if it[0] == user]:
            await self._send(entry, "notifications/resources/updated", {"uri": URI})

    async def _send(self, entry: tuple[str, Any, web.StreamResponse], method: str, params: dict[str, Any]) -> None:
        if entry[1] is not None:
            params = {**params, "_meta": {SUBSCRIPTION: entry[1]}}
        text = json.dumps({"jsonrpc": "2.0", "method": method, "params": params})
        await entry[2].write(f"data: {text}\n\n".encode())


@asynccontextmanager
async def served(server: PrivateServer) -> AsyncIterator[PrivateServer]:
    """Serve on a free port of loopback."""
    runner = web.ServerRunner(web.Server(server.answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
