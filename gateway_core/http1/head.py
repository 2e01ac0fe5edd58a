"""A strict parser for request heads (RFC 9112).

It rejects every head that two parsers could read differently: bare CR or LF, folded lines, white space around names,
control characters, several lengths, a length beside a transfer coding, a target that contradicts Host. There is no
lenient second parser.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway_core.http1.tokens import CHARACTERS, is_token

MAX_HEAD: Final = 32 * 1024
"""Maximum bytes of a request's head."""
MAX_HEADERS: Final = 100
MAX_LINE: Final = 16 * 1024
"""Maximum bytes of the request line, and of each header."""
HEAD_END: Final = b"\r\n\r\n"

_TOKEN_BYTES: Final = bytes(byte for byte in range(128) if is_token(chr(byte)))
_TEXT_BYTES: Final = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
"""Bytes allowed in a field value: no control characters except the tab."""
_REQUEST_LINE: Final = re.compile(rf"([{CHARACTERS}]++) ([!-~]++) HTTP/1\.([01])")
VARYING: Final = frozenset(
    {
        *("content-length", "traceparent", "tracestate", "baggage", "x-request-id"),
        *("mcp-method", "mcp-name", "mcp-session-id"),
    }
)
"""Fields that vary between requests and affect neither the rest of the head nor its route."""
_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)
_BAD: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""A bare CR or LF, or a control character."""
_MAX_DIGITS: Final = 18
_NONE: Final[frozenset[str]] = frozenset()


class HttpError(Exception):
    """The request is rejected with this status. `close`: the connection ends after the response."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None, close: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}
        self.close = close


class Route:
    """Shared by requests whose heads differ in `VARYING` fields only. The application may keep its handler here."""

    __slots__ = ("facts", "handler", "headers", "owner", "until")

    def __init__(self) -> None:
        self.handler: Any = None
        self.owner = ""
        """Whose share of every limit the bytes of the request and its response count for; empty for the network of the
        connection."""
        self.until = math.inf
        """Time (monotonic) until which `handler` may be used."""
        self.headers: Mapping[str, str] = {}
        """Headers of every response to a request with `Origin`, beside those of the response."""
        self.facts: Any = None
        """What the application has read from the fields that do not vary, and from the names of all; None at first."""

    def learn(self, facts: object) -> None:
        """Set `facts`."""
        self.facts = facts

    def keep(self, handler: object | None, until: float = math.inf) -> None:
        """Serve later requests of this connection that share the route with `handler`, until a time (monotonic).

        None: route them.
        """
        self.handler, self.until = handler, until

    def count_for(self, owner: str) -> None:
        """Count the bytes of a request, and of its response, for an owner."""
        self.owner = owner

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Send `headers` with every response, errors and streams included."""
        self.headers = headers


class RequestHead(msgspec.Struct, eq=False):
    """A request's head. Field names are in lower case, values without white space at their ends."""

    method: str
    path: str
    """The target's path without the query, as the client wrote it."""
    query: str
    fields: dict[str, str]
    """Values by name; the values of a repeated field are joined by commas (RFC 9110 5.3)."""
    repeated: frozenset[str]
    """Names of repeated fields."""
    minor: int
    """Minor version: 0 or 1."""
    keep_alive: bool
    """Whether the client wants to reuse the connection."""
    length: int
    """Bytes of the body; 0 if it is chunked."""
    chunked: bool
    canonical: bool
    """Whether the response needs nothing special: HTTP/1.1, kept alive, not HEAD, no `Origin`."""
    lines: list[str]
    """The lines as received, for `read_next_head`."""
    route: Route = msgspec.field(default_factory=Route)

    def once(self, name: str) -> str | None:
        """The value of a field that must not repeat; None if absent. Raises `HttpError` (400) if repeated."""
        if name in self.repeated:
            raise HttpError(400, f"the header {name} is given more than once")
        return self.fields.get(name)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for 100 (Continue) before it sends the body."""
        return self.minor == 1 and self.fields.get("expect", "").lower() == "100-continue"


def read_head(data: bytes) -> RequestHead:
    """Parse a head, including its empty line. Raises `HttpError` (400, 431, 501), which closes the connection."""
    lines = data.decode("latin-1").split("\r\n")
    if len(data) > MAX_LINE:
        _check_size(data, lines)
    if len(lines) - 3 > MAX_HEADERS:
        raise HttpError(431, f"there are more than {MAX_HEADERS} headers", close=True)
    # Without allowed bytes only line ends may remain, one per split: no control characters, no bare CR or LF.
    found = _REQUEST_LINE.fullmatch(lines[0])
    if found is None or data.translate(None, _TEXT_BYTES) != b"\r\n" * (len(lines) - 1):
        raise _malformed()
    method, target, version = found.groups()
    fields: dict[str, str] = {}
    try:
        for line in lines[1:-2]:
            name, value = line.split(":", 1)
            fields[name.lower()] = value.strip(" \t")
    except ValueError:
        raise _malformed() from None
    if "" in fields or "".join(fields).encode("latin-1").translate(None, _TOKEN_BYTES):
        raise _malformed()
    repeated = _NONE if len(fields) == len(lines) - 3 else _join_repeated(lines[1:-2], fields)
    if not data.isascii():
        fields = {name: _utf8(value) for name, value in fields.items()}
    if "host" not in fields or "host" in repeated:
        raise HttpError(400, "exactly one Host header is required", close=True)
    length = 0
    chunked = "transfer-encoding" in fields
    if chunked:
        _check_coding(fields, repeated, version)
    elif "content-length" in fields:
        length = _length(fields["content-length"])
    keep_alive = version == "1"
    if "connection" in fields:
        keep_alive = _keeps_alive(fields["connection"], keep_alive)
    canonical = keep_alive and version == "1" and method != "HEAD" and "origin" not in fields
    path, _, query = target.partition("?")
    if target[0] != "/":
        path = _path_of_absolute(target, fields["host"]) or path
    return RequestHead(
        method, path, query, fields, repeated, int(version), keep_alive, length, chunked, canonical, lines
    )


def read_next_head(data: bytes, last: RequestHead) -> RequestHead:
    """Parse the head after `last` on the same connection. Raises as `read_head`.

    Only lines that differ from those of `last` are parsed, because clients repeat most of their head.
    """
    lines, known = data.decode("latin-1").split("\r\n"), last.lines
    if lines == known:
        return last
    if len(lines) != len(known) or lines[0] != known[0] or not data.isascii():
        return read_head(data)
    fields, length = last.fields.copy(), last.length
    for line, before in zip(lines, known, strict=True):
        if line == before:
            continue
        given, colon, value = line.partition(":")
        name = given.lower()
        if name not in VARYING or name in last.repeated or not (colon and before.startswith(f"{given}:")):
            return read_head(data)
        if not value.isprintable():
            return read_head(data)
        value = fields[name] = value.strip(" ")
        if name == "content-length":
            length = _length(value)
    return replace(last, fields=fields, length=length, lines=lines)


def check_partial(data: bytes, checked: int) -> None:
    """Check the start of a head; its first `checked` bytes have passed before.

    Raises `HttpError` (400, 431) if no continuation can make it a valid head.
    """
    if len(data) > MAX_HEAD:
        raise HttpError(431, f"the headers are larger than {MAX_HEAD} bytes", close=True)
    if data[0] not in _TOKEN_BYTES or _BAD.search(data, max(0, checked - 1)) is not None:
        raise _malformed()


def _check_size(data: bytes, lines: list[str]) -> None:
    if len(data) > MAX_HEAD:
        raise HttpError(431, f"the headers are larger than {MAX_HEAD} bytes", close=True)
    if max(map(len, lines)) > MAX_LINE:
        raise HttpError(431, f"the request line or a header is larger than {MAX_LINE} bytes", close=True)


def _utf8(value: str) -> str:
    """Decode a value as UTF-8 that was decoded as Latin-1."""
    return value.encode("latin-1").decode("utf-8", "surrogateescape")


def _malformed() -> HttpError:
    return HttpError(400, "this is not a valid HTTP request", close=True)


def _join_repeated(lines: list[str], fields: dict[str, str]) -> frozenset[str]:
    """Join the values of repeated fields in `fields`; return their names."""
    values: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        values.setdefault(name.lower(), []).append(value.strip(" \t"))
    repeated = frozenset(name for name, given in values.items() if len(given) > 1)
    for name in repeated:
        fields[name] = ", ".join(values[name])
    return repeated


def _check_coding(fields: Mapping[str, str], repeated: frozenset[str], version: str) -> None:
    """Raise `HttpError` (400, 501) unless the body is chunked and nothing else gives its length (RFC 9112 6)."""
    codings = [coding.strip(" \t") for coding in fields["transfer-encoding"].lower().split(",")]
    if "content-length" in fields or "transfer-encoding" in repeated or version == "0" or codings[-1] != "chunked":
        raise HttpError(400, "the length of the body is ambiguous", close=True)
    if len(codings) > 1:
        raise HttpError(501, "the only supported transfer coding is chunked", close=True)


def _length(value: str) -> int:
    # A repeated field contains a comma and therefore fails here.
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS):
        raise HttpError(400, "the header Content-Length must be one number", close=True)
    return int(value)


def _keeps_alive(connection: str, default: bool) -> bool:
    options = {option.strip(" \t") for option in connection.lower().split(",")}
    return "close" not in options and (default or "keep-alive" in options)


def _path_of_absolute(target: str, host: str) -> str | None:
    """The path of a target in absolute form; None for other forms. Raises `HttpError` (400)."""
    found = _ABSOLUTE.match(target)
    if found is None:
        return None
    if found[1].lower() != host.lower():
        raise HttpError(400, "the request target contradicts the Host header", close=True)
    return found[2] or "/"
