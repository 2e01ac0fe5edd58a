"""The head of one HTTP request: what it says, looked at once.

On the long way aiohttp has parsed it. On the short way `HeadReader` parses it with httptools and remembers it by its
bytes, since an agent's requests have the same few heads; only a head with which nothing at all is wrong or rare is
taken there, so that every refusal is the long way's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import httptools
from multidict import CIMultiDict, MultiMapping

from gateway_core.downstream.answer import JSON, Refusal
from gateway_core.downstream.stream import Accepts
from gateway_core.errors import HEADER_MISMATCH, RpcError
from gateway_core.hosts import HostGuard
from gateway_core.protocol import (
    HANDSHAKE_PROTOCOL_VERSIONS,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PARAM_HEADER_PREFIX,
    MCP_PROTOCOL_VERSION_HEADER,
    MODERN_PROTOCOL_VERSIONS,
)

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
MAX_FIELD: Final = 16 * 1024
SESSION_HEADER: Final = "Mcp-Session-Id"
VERSION_HEADER: Final = "MCP-Protocol-Version"
MCP_PATHS: Final = frozenset({"/mcp", "/"})
_REFUSED: Final = re.compile(r"q=0(\.0{0,3})?")
"""The weight that means "not acceptable" (RFC 9110 12.4.2)."""
_PARAM_PREFIX: Final = MCP_PARAM_HEADER_PREFIX.lower()
_HEADER_TEXT: Final = re.compile(r"[\t\x20-\x7e]*")
_ROUTING: Final = (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)

REMEMBERED: Final = 1024
"""Heads that the short way remembers, each of at most `MAX_REMEMBERED` bytes."""
MAX_REMEMBERED: Final = 2048
_POST: Final = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in MCP_PATHS)
_GET: Final = tuple(f"GET {path} HTTP/1.1\r\n".encode() for path in MCP_PATHS)
_RARE: Final = ("Transfer-Encoding", "Content-Encoding", "Expect", "Upgrade")
"""Headers whose requests go the long way."""


class Head:
    """A request's headers, and what is made of them; what may be refused is found out on first use."""

    __slots__ = (
        "_accepts",
        "_once",
        "_params",
        "_routing",
        "_session",
        "headers",
        "legacy",
        "length",
        "posts",
        "remembered",
    )

    def __init__(self, headers: MultiMapping[str], length: int = 0, *, posts: bool = True) -> None:
        """`length`: of the body that follows; known on the short way only. `posts`: it is a POST, else a GET."""
        self.headers = headers
        self.length = length
        self.posts = posts
        version = headers.get(VERSION_HEADER)
        self.legacy = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS or SESSION_HEADER in headers
        """Whether nothing in it says that it is a modern request's."""
        self.remembered = False
        """Whether the next request with the same head finds this very object."""
        self._accepts: Accepts | None = None
        self._once: dict[str, str | None] = {}
        self._routing: Mapping[str, str] | None = None
        self._params: tuple[tuple[str, str], ...] | None = None
        self._session: tuple[str | None, bool] | None = None

    def once(self, name: str) -> str | None:
        """A header that may be given once, None when it is absent. Raises `Refusal` (400) when it is given twice."""
        if name in self._once:
            return self._once[name]
        values = self.headers.getall(name, ())
        if len(values) > 1:
            raise Refusal(400, f"the header {name} is given more than once")
        value = self._once[name] = values[0] if values else None
        return value

    def session(self) -> tuple[str | None, bool]:
        """A legacy request's session id, if it has one, and whether its version, if it names one, is a legacy one.

        Raises `Refusal` (400) when either is given twice.
        """
        if self._session is None:
            version = self.once(VERSION_HEADER)
            self._session = self.once(SESSION_HEADER), version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
        return self._session

    def accepts(self) -> Accepts:
        """What may be answered with. Raises `Refusal` (406) when it is neither JSON nor a stream."""
        if self._accepts is None:
            found = _accepts(",".join(self.headers.getall("Accept", ("*/*",))))
            if not (found.json or found.stream):
                raise Refusal(406, "answers are application/json or text/event-stream, and Accept names neither")
            self._accepts = found
        return self._accepts

    def routing(self) -> Mapping[str, str]:
        """The headers that mirror a modern request's body. Raises `RpcError(HEADER_MISMATCH)` for one given twice."""
        if self._routing is None:
            for name in _ROUTING:
                if len(self.headers.getall(name, ())) > 1:
                    raise RpcError.of_gateway(HEADER_MISMATCH, f"the header {name} is given more than once")
            self._routing = {name: self.headers[name] for name in _ROUTING if name in self.headers}
        return self._routing

    def params(self) -> tuple[tuple[str, str], ...]:
        """The `Mcp-Param-*` headers, which travel on.

        Raises `RpcError(HEADER_MISMATCH)`: bad characters, given twice.
        """
        if self._params is None:
            self._params = _param_headers(self.headers)
        return self._params


def _param_headers(headers: MultiMapping[str]) -> tuple[tuple[str, str], ...]:
    size = len(_PARAM_PREFIX)
    found = tuple((name, value) for name, value in headers.items() if name[:size].lower() == _PARAM_PREFIX)
    if len({name.lower() for name, _ in found}) != len(found):
        raise RpcError.of_gateway(HEADER_MISMATCH, "an Mcp-Param header is given more than once")
    for name, value in found:
        if _HEADER_TEXT.fullmatch(value) is None:
            raise RpcError.of_gateway(HEADER_MISMATCH, f"the header {name} contains invalid characters")
    return found


@lru_cache(maxsize=256)
def _accepts(value: str) -> Accepts:
    wanted: dict[str, bool] = {}
    for part in value.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        wanted[media_type] = not any(_REFUSED.fullmatch(parameter) for parameter in parameters)

    def allows(media_type: str) -> bool:
        # The most specific entry decides (RFC 9110 12.5.1).
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((wanted[name] for name in ranges if name in wanted), False)

    return Accepts(allows("application/json"), allows("text/event-stream"))


def is_json(content_type: str | None) -> bool:
    """Whether a Content-Type says that the body is JSON."""
    return (content_type or "").partition(";")[0].strip().lower() == JSON


class HeadReader:
    """Reads the heads of usual requests to the MCP endpoint with which nothing is wrong: a POST of JSON, its length
    told, or a GET of a legacy agent's stream."""

    def __init__(self, guard: HostGuard, limit: int) -> None:
        """`limit`: bytes of a body that the short way takes."""
        self._guard = guard
        self._limit = limit
        self._known: dict[bytes, Head] = {}

    def read(self, data: bytes) -> Head | None:
        """The head that these bytes are, the empty line included; None sends the request the long way."""
        known = self._known.get(data)
        if known is not None:
            return known
        posts = data.startswith(_POST)
        usual = (posts or data.startswith(_GET)) and len(data) <= MAX_HEADER_BYTES
        head = self._parsed(data, posts) if usual and b"\r\n " not in data and b"\r\n\t" not in data else None
        if head is not None and posts and len(data) <= MAX_REMEMBERED:
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[data] = head
            head.remembered = True
        return head

    def _parsed(self, data: bytes, posts: bool) -> Head | None:
        found = _Parsed()
        parser = httptools.HttpRequestParser(found)
        try:
            parser.feed_data(data)
            headers = CIMultiDict(
                (name.decode("ascii"), value.strip(b" \t").decode("ascii")) for name, value in found.headers
            )
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            return None
        if not found.complete or not parser.should_keep_alive() or parser.get_http_version() != "1.1":
            return None
        if len(headers) > MAX_HEADERS or max(len(value) for value in headers.values()) > MAX_FIELD:
            return None
        length = headers.get("Content-Length", "0")
        if not (length.isdecimal() and len(length) <= 9 and int(length) <= self._limit and posts == (int(length) > 0)):
            return None
        head = Head(headers, int(length), posts=posts)
        return head if self._is_usual(head) else None

    def _is_usual(self, head: Head) -> bool:
        headers = head.headers
        if any(name in headers for name in _RARE) or len(set(map(str.lower, headers))) != len(headers):
            return False
        if self._guard.check(headers) is not None:
            return False
        if head.posts and not is_json(headers.get("Content-Type")):
            return False
        if not head.posts and headers.get(VERSION_HEADER) in MODERN_PROTOCOL_VERSIONS:
            return False
        try:
            head.routing(), head.params()
            return head.accepts().json if head.posts else head.accepts().stream
        except (Refusal, RpcError):
            return False


class _Parsed:
    """What httptools says while it parses."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True
