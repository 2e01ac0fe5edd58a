"""The two servers that the guard needs and that must stay what they are: its recorded ratios stand on them.

    python guard_servers.py upstream PORT
    python guard_servers.py forwarder PORT UPSTREAM_PORT

`upstream` is a small MCP server of both eras with 50 tools. `forwarder` passes requests on to it and answers back, and
on the way does in plain Python some of what a gateway does: it reads the head, decodes the message and writes it anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import Any

import uvloop

SESSION = "guard-session"


class Http(asyncio.Protocol):
    """Cuts what arrives into heads and bodies of `Content-Length`; enough of HTTP for messages that we know."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        pending = self._pending + data
        while (end := pending.find(b"\r\n\r\n")) >= 0:
            lines = pending[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
            stop = end + 4 + int(headers.get("content-length", "0"))
            if len(pending) < stop:
                break
            body, pending = pending[end + 4 : stop], pending[stop:]
            self.message(lines, headers, body)
        self._pending = pending

    def message(self, lines: list[str], headers: dict[str, str], body: bytes) -> None:
        raise NotImplementedError


class Upstream(Http):
    def message(self, lines: list[str], headers: dict[str, str], body: bytes) -> None:
        asked = json.loads(body) if body else {}
        modern = headers.get("mcp-protocol-version") == "2026-07-28"
        head, text = "HTTP/1.1 202 Accepted\r\n", b""
        if lines[0].startswith("GET"):
            head = "HTTP/1.1 405 Method Not Allowed\r\n"
        elif "id" in asked:
            answer = {"jsonrpc": "2.0", "id": asked["id"], **_answer(asked, modern)}
            text = json.dumps(answer, separators=(",", ":")).encode()
            head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            if asked["method"] == "initialize":
                head += f"Mcp-Session-Id: {SESSION}\r\n"
        self.transport.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)


def _answer(asked: dict[str, Any], modern: bool) -> dict[str, Any]:
    method, params = asked["method"], asked.get("params", {})
    hints = {"resultType": "complete"} if modern else {}
    if method == "tools/call":
        given = params["arguments"]
        content = [{"type": "text", "text": given["text"] * given.get("repeat", 1)}]
        return {"result": {"content": content, "isError": False, **hints}}
    if modern:
        hints |= {"ttlMs": 300_000, "cacheScope": "public"}
    if method == "tools/list":
        return {"result": {"tools": TOOLS, **hints}}
    if method == "initialize":
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "guard", "version": "1"}}
        return {"result": {"protocolVersion": params["protocolVersion"], **about}}
    if method == "server/discover":
        return {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **hints}}
    if method == "ping":
        return {"result": {}}
    return {"error": {"code": -32601, "message": "Method not found"}}


TOOLS = [
    {
        "name": "echo" if number == 0 else f"tool_{number:03d}",
        "description": f"Looks record number {number} up in the catalogue and returns its fields as text.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "what to return"}, "repeat": {"type": "integer"}},
            "required": ["text"],
        },
    }
    for number in range(50)
]


class Forwarder(Http):
    """The agent's side; each of its connections has one of its own to the upstream."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__()
        self._port = upstream_port
        self._upstream: asyncio.Transport | None = None
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        back = partial(Back, self.transport)
        self._upstream, _ = await loop.create_connection(back, "127.0.0.1", self._port)
        for request in self._waiting:
            self._upstream.write(request)

    def message(self, lines: list[str], headers: dict[str, str], body: bytes) -> None:
        message = json.loads(body) if body else None
        text = b"" if message is None else json.dumps(message, separators=(",", ":")).encode()
        headers["content-length"] = str(len(text))
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        request = f"{lines[0]}\r\n{head}\r\n".encode() + text
        if self._upstream is None:
            self._waiting.append(request)
        else:
            self._upstream.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opening.cancel()
        if self._upstream is not None:
            self._upstream.close()


class Back(asyncio.Protocol):
    """The upstream's side of the forwarder."""

    def __init__(self, agent: asyncio.Transport) -> None:
        self._agent = agent

    def data_received(self, data: bytes) -> None:
        self._agent.write(data)


async def serve(kind: str, port: int, *upstream_port: int) -> None:
    made = Upstream if kind == "upstream" else partial(Forwarder, *upstream_port)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], *map(int, sys.argv[2:])))
