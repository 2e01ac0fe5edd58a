"""The well-behaved part of the servers in this folder; each server overrides the one thing that it does differently.

A server has a name, and everything that it offers carries that name, so that many of them fit behind one gateway.
Only the standard library is used: an SDK would not produce what these servers produce.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OBJECT = {"type": "object"}
TEXT = "grüße 😀"

Message = dict[str, Any]


class Refused(Exception):
    """Answers a request with a JSON-RPC error: `Refused(code, message)`."""


class Server:
    """A legacy MCP server: `answer` takes a message and returns its response, None for a notification."""

    name: str
    variant: str

    def __init__(self, name: str, variant: str) -> None:
        self.name, self.variant = name, variant

    def answer(self, message: Message) -> Message | None:
        if "id" not in message:
            return None
        try:
            ending = {"result": self.result(message["method"], message.get("params", {}))}
        except Refused as refused:
            code, text = refused.args
            ending = {"error": {"code": code, "message": text}}
        return {"jsonrpc": "2.0", "id": message["id"], **ending}

    def result(self, method: str, params: Message) -> Any:
        """The result of a request. Raises `Refused`."""
        match method:
            case "initialize":
                return self.identity(params)
            case "ping" | "logging/setLevel":
                return {}
            case "tools/list":
                return {"tools": self.tools()}
            case "prompts/list":
                return {"prompts": [{"name": f"{self.name}_greet", "arguments": [{"name": "who"}]}]}
            case "resources/list":
                return {"resources": [{"uri": f"memo://{self.name}/note", "name": "note"}]}
            case "resources/templates/list":
                return {"resourceTemplates": [{"uriTemplate": f"memo://{self.name}/{{name}}", "name": "memo"}]}
            case "resources/read":
                return {"contents": [{"uri": params["uri"], "text": f"note of {self.name}"}]}
            case "prompts/get":
                content = {"type": "text", "text": f"Hello {params['arguments']['who']}"}
                return {"messages": [{"role": "user", "content": content}]}
            case "tools/call":
                return self.call(params["name"].removeprefix(f"{self.name}_"), params.get("arguments") or {})
        raise Refused(-32601, f"unknown method {method}")

    def identity(self, params: Message) -> Message:
        capabilities: Message = {"tools": {}, "prompts": {}, "resources": {}}
        server = {"name": self.name, "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": capabilities, "serverInfo": server}

    def tools(self) -> list[Any]:
        return [self.tool("echo"), self.tool("add")]

    def tool(self, short: str) -> Message:
        return {"name": f"{self.name}_{short}", "inputSchema": OBJECT}

    def call(self, short: str, arguments: Message) -> Message:
        if short == "echo":
            return said(arguments.get("text", ""))
        if short == "add":
            return said(str(arguments["a"] + arguments["b"]))
        raise Refused(-32602, f"unknown tool {short}")


def said(text: str) -> Message:
    """The result of a tool that says one text."""
    return {"content": [{"type": "text", "text": text}]}


def encoded(message: Any) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()


class StdioServer(Server):
    """A server on standard input and output."""

    def run(self) -> None:
        for line in sys.stdin:
            answer = self.answer(json.loads(line))
            if answer is not None:
                self.write(encoded(answer) + b"\n")

    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


class HttpServer(Server):
    """A server over Streamable HTTP, without sessions; overrides get the handler of the request."""

    session = ""
    """The session id that `initialize` gives, if any."""

    def post(self, handler: Handler, message: Message) -> None:
        """Answer one POST."""
        self.reply(handler, message, self.answer(message))

    def reply(self, handler: Handler, message: Message, answer: Message | None) -> None:
        """Send a response, or what a notification gets."""
        if answer is None:
            handler.send(202)
        elif message["method"] == "initialize" and self.session:
            handler.send(200, encoded(answer), **{"Mcp-Session-Id": self.session})
        else:
            handler.send(200, encoded(answer))

    def get(self, handler: Handler) -> None:
        """Answer the GET for a standalone stream."""
        handler.send(405)

    def delete(self, handler: Handler) -> None:
        handler.send(200)


class Handler(BaseHTTPRequestHandler):
    """Hands requests on to the `HttpServer` that it is for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    mcp: HttpServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.mcp.post(self, json.loads(body))

    def do_GET(self) -> None:
        self.mcp.get(self)

    def do_DELETE(self) -> None:
        self.mcp.delete(self)

    def send(self, status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        """Send a whole answer in one piece."""
        lines = [f"HTTP/1.1 {status} Odd", f"Content-Length: {len(body)}", *([f"Content-Type: {kind}"] if body else [])]
        self.raw("\r\n".join([*lines, *(f"{key}: {value}" for key, value in headers.items())]).encode(), body)

    def raw(self, head: bytes, *parts: bytes, close: bool = False) -> None:
        """Send bytes as they are: a head without its last line ends, then parts, each in a separate write."""
        first, *others = (head + b"\r\n\r\n", *parts)
        self.wfile.write(first + (others.pop(0) if len(others) == 1 else b""))
        for part in others:
            self.wfile.write(part)
        self.close_connection = self.close_connection or close

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of odd servers hang up as they like."""


def listen(server: HttpServer, make: Callable[..., Any] = Handler) -> str:
    """Serve in the background until the process ends; the URL."""
    listener = _Listener(("127.0.0.1", 0), type("Bound", (make,), {"mcp": server}))
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{listener.server_port}/mcp"
