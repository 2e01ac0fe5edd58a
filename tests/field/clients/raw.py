"""What the odd clients share: requests as bytes over a socket, and answers read with the standard library."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from types import TracebackType
from typing import Any, Final, Self

LIMIT: Final = 15.0
"""Seconds for one answer."""
USUAL: Final = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
SESSION: Final = "Mcp-Session-Id"


class _Kept(io.BufferedReader):
    """Stays open when one answer has been read, because another may follow on the connection."""

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> Any:
        """The JSON of the body, or of the last event of a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            lines = [line for line in self.body.splitlines() if line.startswith(b"data: ")]
            return json.loads(lines[-1].removeprefix(b"data: "))
        return json.loads(self.body)

    @property
    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.message["result"]["tools"]]


class Connection:
    """One connection to the gateway; answers are read in the order of the requests."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._file = _Kept(socket.SocketIO(self.socket, "rb"))  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super(_Kept, self._file).close()
        self.socket.close()

    def makefile(self, mode: str) -> _Kept:
        return self._file

    def answer(self, verb: str = "POST") -> Answer:
        response = HTTPResponse(self, method=verb)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())


def request(
    port: int,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    verb: str = "POST",
    path: str = "/mcp",
    version: str = "HTTP/1.1",
) -> bytes:
    """The bytes of a request, with a Host and a Content-Length unless the headers have their own."""
    lines = {"Host": f"127.0.0.1:{port}", **({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
    head = "\r\n".join([f"{verb} {path} {version}", *(f"{name}: {value}" for name, value in lines.items())])
    return head.encode() + b"\r\n\r\n" + body


def call(method: str, number: Any = 1, **members: Any) -> dict[str, Any]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, **members}


def initialize(version: str = "2025-11-25") -> dict[str, Any]:
    client = {"name": "odd", "version": "1"}
    return call("initialize", params={"protocolVersion": version, "capabilities": {}, "clientInfo": client})


def send(port: int, data: bytes, verb: str = "POST") -> Answer:
    """Send bytes on a new connection and read one answer."""
    with Connection(port) as connection:
        connection.socket.sendall(data)
        return connection.answer(verb)


def post(port: int, message: Any, headers: Mapping[str, str] | None = None, **options: Any) -> Answer:
    """POST a message with usual headers; `headers` are added."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return send(port, request(port, body, {**USUAL, **(headers or {})}, **options))


def session(port: int, version: str = "2025-11-25") -> dict[str, str]:
    """Open a session; the headers of its requests."""
    opened = post(port, initialize(version))
    headers = {SESSION: opened.headers["mcp-session-id"], "MCP-Protocol-Version": version}
    post(port, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    return headers


@dataclass(frozen=True)
class OddClient:
    """A client, what is odd about it, and what it should get."""

    name: str
    odd: str
    talk: Callable[[int], Any]
    """Speaks to the gateway at a port; what it got."""
    right: Any
    refused: str = ""
    """Why it does not get what it wants, if so."""

    def __str__(self) -> str:
        return self.name


CLIENTS: Final[list[OddClient]] = []
"""Every client that `client` has marked."""


def client(odd: str, right: Any, refused: str = "") -> Callable[[Callable[[int], Any]], Callable[[int], Any]]:
    """Mark a function as an odd client."""

    def mark(talk: Callable[[int], Any]) -> Callable[[int], Any]:
        CLIENTS.append(OddClient(talk.__name__.strip("_").replace("_", "-"), odd, talk, right, refused))
        return talk

    return mark
