"""Response heads: parsed by httptools within bounds (RFC 9112), and cached by their bytes."""

from __future__ import annotations

from typing import Final

import httptools
from multidict import CIMultiDict

from gateway_core.http1.client.response import ResponseHead

MAX_HEAD: Final = 32 * 1024
"""Maximum bytes of a response's header and trailer fields together."""
MAX_HEADERS: Final = 100
REMEMBERED: Final = 256
MAX_REMEMBERED: Final = 2048
"""Maximum number of cached heads, and maximum bytes of each."""
_BODILESS: Final = frozenset({204, 304})


class Malformed(OSError):
    """The server sent something else than an HTTP response."""


class Closed(OSError):
    """The connection closed before the response was complete."""


class Unused(Closed):
    """The connection closed before a request was written to it."""


class HeadCache:
    """A cache of response heads by their bytes. Each upstream has one, because its heads repeat."""

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseHead] = {}

    def read(self, data: bytes) -> ResponseHead | None:
        """A final response's head, parsed or from the cache. None if it is invalid, folded or too long to cache."""
        known = self._known.get(data)
        if known is None and len(data) <= MAX_REMEMBERED and data.find(b"\r\n ") < 0 and data.find(b"\r\n\t") < 0:
            known = _head_of(data)
            if known is not None:
                while len(self._known) >= REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[data] = known
        return known


def _head_of(data: bytes) -> ResponseHead | None:
    collected = Collected()
    try:
        collected.parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    finally:
        collected.release()
    head = collected.head
    return head if head is not None and head.status >= 200 else None


def _read(parser: httptools.HttpResponseParser, headers: CIMultiDict[str]) -> ResponseHead:
    """The head that `parser` has just completed."""
    status, length = parser.get_status_code(), None
    if status in _BODILESS:
        length = 0
    elif "Transfer-Encoding" not in headers:
        lengths = headers.getall("Content-Length", ())
        if len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit():
            length = int(lengths[0])
    # With neither a length nor chunks, the end of the connection ends the body (RFC 9112 6.3).
    framed = length is not None or "Transfer-Encoding" in headers
    return ResponseHead(status, headers, length=length, reusable=framed and parser.should_keep_alive())


class Collected:
    """httptools callbacks that collect one bounded head."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.head: ResponseHead | None = None
        self._size = 0

    def release(self) -> None:
        """Drop the parser, to break the reference cycle with it."""
        del self.parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD or len(self.headers) >= MAX_HEADERS:
            raise Malformed("the head of its answer is too large")
        if self.head is None:  # trailers are dropped
            self.headers.add(name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))

    def on_headers_complete(self) -> None:
        # Read it now: at the end of the message the parser no longer knows whether the connection stays open.
        self.head = _read(self.parser, self.headers)
