"""A blocking MCP client that opens sessions and writes the requests that the load replays."""

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
_NOTE = 'if path in ("/", "/mcp"):\n    return {"ok": [True], "note": "caf\u00e9 \u2013 all day"}\n'
"""What an agent writes into a file, repeated as needed."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The arguments of one call of the echo tool, and what else differs between the calls of a real agent."""

    text: str = TEXT
    repeat: int = 1
    kind: str = ""
    """What the result has after the text: 4 KB of "prose", "code" or "rows"."""
    size: int = 0
    """Bytes of the arguments, about: a note that has no effect fills them up."""
    traced: bool = False
    """Whether the request carries a `traceparent` header and a `progressToken` that no other request has."""
    spaced: bool = False
    """Whether it is written as `json.dumps` does by default, with spaces and with escapes instead of UTF-8."""

    def arguments(self) -> dict[str, Any]:
        found: dict[str, Any] = {"text": self.text}
        if self.repeat != 1 or not self.traced:
            found["repeat"] = self.repeat
        if self.kind:
            found["kind"] = self.kind
        missing = self.size - len(_dumps(found, self.spaced)) - len(', "note": ""')
        if missing > 0:
            written = len(_dumps(_NOTE, self.spaced).encode()) - len('""')
            note = _NOTE * (missing // written + 1)
            found["note"] = note[: missing * len(_NOTE) // written]
        return found

    @property
    def least(self) -> int:
        """Bytes of the result, at least."""
        return len(self.text) * self.repeat + (4096 if self.kind else 0)


@dataclass(frozen=True, slots=True)
class Record:
    """One HTTP request to be replayed, and the places of the ten digits that differ from request to request.

    The first place is the id, the second the start of the text, if there is one. `least`: bytes of a good answer.
    """

    data: bytes
    places: tuple[int, ...]
    least: int


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

    def call(self, session: str, tool: str, ask: Ask) -> None:
        """Calls a tool that echoes once and compares the text."""
        result, _ = self._request("tools/call", {"name": tool, "arguments": ask.arguments()}, session)
        text = result["content"][0].get("text", "")
        if (
            result.get("isError")
            or len(_dumps(text, spaced=False).encode()) < ask.least
            or not text.startswith(ask.text * ask.repeat)
        ):
            raise RuntimeError(f"wrong echo: {str(result)[:200]}")

    def call_record(self, session: str, tool: str, ask: Ask) -> Record:
        """The call of `call()` as bytes."""
        params = {"name": tool, "arguments": ask.arguments()}
        data, id_at = self._raw("tools/call", params, session, tool, ask)
        places = [id_at, data.index(f'"{ask.text}'.encode()) + 1]
        if ask.traced:
            digits = b"%d" % NUMBER
            places += [data.index(digits, data.index(mark)) for mark in (b"\r\ntraceparent:", b'"progressToken"')]
        return Record(data, tuple(places), ask.least)

    def list_record(self, session: str, least: int) -> Record:
        """A request for the first page of the tools, as bytes."""
        data, id_at = self._raw("tools/list", {}, session, "")
        return Record(data, (id_at,), least)

    def close(self, sessions: tuple[str, ...] = ()) -> None:
        """Ends sessions, and the connection."""
        for session in filter(None, sessions):
            self._http.request("DELETE", self._path, headers=self._headers("", session))
            self._http.getresponse().read()
        self._http.close()

    def _raw(
        self, method: str, params: dict[str, Any], session: str, name: str, ask: Ask | None = None
    ) -> tuple[bytes, int]:
        traced, spaced = ask is not None and ask.traced, ask is not None and ask.spaced
        body = self._message(method, params, NUMBER, traced=traced, spaced=spaced)
        lines = [f"POST {self._path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Content-Length: {len(body)}"]
        headers = self._headers(method, session, name)
        if traced:
            headers["traceparent"] = f"00-4bf92f{NUMBER}4736a3ce929d0e0e-00f067aa0ba902b7-01"
        lines += [f"{key}: {value}" for key, value in headers.items()]
        data = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        return data, data.rindex(b"%d" % NUMBER)

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

    def _message(
        self, method: str, params: dict[str, Any], number: int | None, *, traced: bool = False, spaced: bool = False
    ) -> bytes:
        meta: dict[str, Any] = {}
        if self._modern:
            prefix = "io.modelcontextprotocol/"
            meta = {
                f"{prefix}protocolVersion": MODERN,
                f"{prefix}clientInfo": _CLIENT,
                f"{prefix}clientCapabilities": {},
            }
        if traced:
            meta["progressToken"] = NUMBER
        if meta:
            params = {**params, "_meta": meta}
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        return _dumps(message, spaced).encode()

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


def _dumps(value: Any, spaced: bool) -> str:
    return json.dumps(value) if spaced else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
