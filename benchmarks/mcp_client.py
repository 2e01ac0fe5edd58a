"""A blocking MCP client for one thing: opening sessions and writing the requests that the load replays."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

LEGACY, MODERN = "2025-11-25", "2026-07-28"
NUMBER = 1000000000
"""Ten digits that mcpload replaces, as the request's id and at the start of the text."""
TEXT = f"{NUMBER}" + "x" * 90
_CLIENT = {"name": "bench", "version": "1"}


@dataclass(frozen=True, slots=True)
class Record:
    """One HTTP request to be replayed, and where its id and its text carry the ten digits; one place without a text."""

    data: bytes
    id_at: int
    mark_at: int


class Client:
    """One connection to a target; in the legacy era every `open()` begins another session on it.

    Raises `RuntimeError` for every answer that is not the expected one.
    """

    def __init__(self, port: int, era: str, path: str = "/mcp", timeout: float = 30) -> None:
        self._port = port
        self._path = path
        self._modern = era == "modern"
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def open(self) -> str:
        """Shakes hands; returns the session's id, empty in the modern era and for targets without sessions."""
        if self._modern:
            self._request("server/discover", {}, "")
            return ""
        hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": _CLIENT}
        _, session = self._request("initialize", hello, "", first=True)
        self._post(self._message("notifications/initialized", {}, None), self._headers("", session))
        return session

    def tools(self, session: str) -> list[list[str]]:
        """Names of the tools, page by page."""
        pages: list[list[str]] = []
        params: dict[str, str] = {}
        while True:
            page, _ = self._request("tools/list", params, session)
            pages.append([tool["name"] for tool in page["tools"]])
            if not page.get("nextCursor"):
                return pages
            params = {"cursor": page["nextCursor"]}

    def call(self, session: str, tool: str, text: str = TEXT, repeat: int = 1) -> None:
        """Calls a tool that echoes once and compares the whole text."""
        result, _ = self._request("tools/call", _echo(tool, text, repeat), session)
        if result.get("isError") or result["content"][0].get("text") != text * repeat:
            raise RuntimeError(f"wrong echo: {str(result)[:200]}")

    def call_record(self, session: str, tool: str, text: str = TEXT, repeat: int = 1) -> Record:
        """The call of `call()` as bytes."""
        data, id_at = self._raw("tools/call", _echo(tool, text, repeat), session, tool)
        return Record(data, id_at, data.index(text.encode()))

    def list_record(self, session: str) -> Record:
        """A request for the first page of the tools, as bytes."""
        data, id_at = self._raw("tools/list", {}, session, "")
        return Record(data, id_at, id_at)

    def close(self, sessions: tuple[str, ...] = ()) -> None:
        """Ends sessions, and the connection."""
        for session in filter(None, sessions):
            self._http.request("DELETE", self._path, headers=self._headers("", session))
            self._http.getresponse().read()
        self._http.close()

    def _raw(self, method: str, params: dict[str, Any], session: str, name: str) -> tuple[bytes, int]:
        body = self._message(method, params, NUMBER)
        lines = [f"POST {self._path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"{key}: {value}" for key, value in self._headers(method, session, name).items()]
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        return data, data.index(b'"id":%d' % NUMBER) + 5

    def _headers(self, method: str, session: str, name: str = "") -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        headers["MCP-Protocol-Version"] = MODERN if self._modern else LEGACY
        if self._modern:
            headers["Mcp-Method"] = method
            if name:
                headers["Mcp-Name"] = name
        elif session:
            headers["Mcp-Session-Id"] = session
        return headers

    def _message(self, method: str, params: dict[str, Any], number: int | None) -> bytes:
        if self._modern:
            prefix = "io.modelcontextprotocol/"
            meta = {
                f"{prefix}protocolVersion": MODERN,
                f"{prefix}clientInfo": _CLIENT,
                f"{prefix}clientCapabilities": {},
            }
            params = {**params, "_meta": meta}
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        return json.dumps(message, separators=(",", ":")).encode()

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, http.client.HTTPMessage, bytes]:
        self._http.request("POST", self._path, body, headers)
        answer = self._http.getresponse()
        return answer.status, answer.headers, answer.read()

    def _request(self, method: str, params: dict[str, Any], session: str, *, first: bool = False) -> tuple[Any, str]:
        headers = self._headers(method, session, str(params.get("name", "")))
        if first:
            del headers["MCP-Protocol-Version"]
        status, heads, body = self._post(self._message(method, params, 1), headers)
        if "text/event-stream" in heads.get("Content-Type", ""):
            body = b"".join(line[5:] for line in body.splitlines() if line.startswith(b"data:"))
        answer = json.loads(body) if status == 200 else {}
        if "result" not in answer:
            raise RuntimeError(f"{method}: HTTP {status} {body[:300]!r}")
        return answer["result"], heads.get("Mcp-Session-Id", "")


def _echo(tool: str, text: str, repeat: int) -> dict[str, Any]:
    return {"name": tool, "arguments": {"text": text, "repeat": repeat}}
