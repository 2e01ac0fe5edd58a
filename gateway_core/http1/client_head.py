"""The heads of answers, parsed by httptools within bounds (RFC 9112), and remembered by their bytes."""

from __future__ import annotations

from typing import Final

import httptools
from multidict import CIMultiDict

from gateway_core.http1.client_response import ResponseHead

MAX_HEAD: Final = 32 * 1024
"""Bytes of an answer's head, and of the trailers after a body."""
MAX_HEADERS: Final = 100
REMEMBERED: Final = 256
MAX_REMEMBERED: Final = 2048
"""Heads that are remembered, and their bytes."""
_BODILESS: Final = frozenset({204, 304})


class Malformed(OSError):
    """What the server sent is not an answer."""


class Closed(OSError):
    """The server closed the connection before it had answered."""


class Heads:
    """Heads of answers by their bytes. One for each upstream: the same few come again and again."""

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseHead] = {}

    def read(self, data: bytes) -> ResponseHead | None:
        """The head that these bytes are, if it is that of an answer; None otherwise, whatever is wrong."""
        known = self._known.get(data)
        if known is None and len(data) <= MAX_REMEMBERED and b"\r\n " not in data and b"\r\n\t" not in data:
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
    """What a parser that has come to the end of a head has found."""
    status, length = parser.get_status_code(), None
    if status in _BODILESS:
        length = 0
    elif "Transfer-Encoding" not in headers:
        lengths = headers.getall("Content-Length", ())
        if len(lengths) == 1 and lengths[0].isascii() and lengths[0].isdigit():
            length = int(lengths[0])
    # Without a length and not in chunks, the body goes on to the end of the connection (RFC 9112 6.3).
    framed = length is not None or "Transfer-Encoding" in headers
    return ResponseHead(status, headers, length=length, reusable=framed and parser.should_keep_alive())


class Collected:
    """The head that httptools finds, within bounds."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.head: ResponseHead | None = None
        self._size = 0

    def release(self) -> None:
        """Let go of the parser, which holds this: nothing is left for the garbage collector."""
        del self.parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD or len(self.headers) >= MAX_HEADERS:
            raise Malformed("the head of its answer is too large")
        if self.head is None:  # trailers are of no use
            self.headers.add(name.decode("latin-1"), value.strip(b" \t").decode("latin-1"))

    def on_headers_complete(self) -> None:
        # Here, because at the end of the message the parser has forgotten whether the connection stays open.
        self.head = _read(self.parser, self.headers)
