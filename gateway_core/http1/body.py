"""Bodies of requests as they arrive: of known length, or in chunks (RFC 9112 6 and 7.1)."""

from __future__ import annotations

import re
from typing import Final, Protocol

from gateway_core.http1.head import HttpError

MAX_CHUNK_LINE: Final = 256
"""Bytes of a chunk's size and extensions."""
MAX_EXTENSIONS: Final = 4 * 1024
"""Bytes of all chunk extensions of one body. Nothing reads them."""
MAX_TRAILERS: Final = 8 * 1024
"""Bytes of the trailers. Nothing reads them."""

_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t -~\x80-\xff]*+)?")
_TRAILER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[\t -~\x80-\xff]*+")
_NO_TRAILERS: Final = frozenset({b"content-length", b"transfer-encoding", b"host"})
"""Fields that say where a message ends or goes (RFC 9110 6.5.1)."""
_DATA, _DATA_END, _SIZE, _TRAILERS = range(4)


class BodyReader(Protocol):
    """Reads one body."""

    def feed(self, data: bytes) -> bytes | None:
        """Take more bytes; returns what follows the body once it is complete. Raises `HttpError` (400, 413)."""

    def body(self) -> bytes:
        """The complete body."""


class LengthBody:
    """A body whose length is known."""

    def __init__(self, length: int) -> None:
        self._left = length
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        left = self._left
        self._left -= len(data)
        if self._left > 0:
            self._body += data
            return None
        self._body += data[:left]
        return data[left:]

    def body(self) -> bytes:
        return bytes(self._body)


class ChunkedBody:
    """A body in chunks. Extensions and trailers are checked, bounded and dropped."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the body without its framing."""
        self._limit = limit
        self._state = _SIZE
        self._left = 0
        """Bytes of the current chunk that are still to come."""
        self._partial = b""
        """The beginning of a line."""
        self._extensions = 0
        self._trailers = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        data = self._partial + data
        self._partial = b""
        position = 0
        while True:
            if self._state == _DATA:
                piece = data[position : position + self._left]
                self._body += piece
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    return None
                self._state = _DATA_END
            end = data.find(b"\n", position)
            if end < 0:
                self._partial = data[position:]
                self._check_partial()
                return None
            line = data[position : end - 1]
            if end == position or data[end - 1] != 13:
                raise _malformed()
            position = end + 1
            if self._take(line):
                return data[position:]

    def body(self) -> bytes:
        return bytes(self._body)

    def _take(self, line: bytes) -> bool:
        """Take a line of the framing, without its end; whether it is the last one."""
        if self._state == _DATA_END:
            if line:
                raise _malformed()
            self._state = _SIZE
        elif self._state == _SIZE:
            self._begin_chunk(line)
        else:
            self._trailers += len(line) + 2
            if not line:
                return True
            found = _TRAILER.fullmatch(line) if self._trailers <= MAX_TRAILERS else None
            if found is None or found[1].lower() in _NO_TRAILERS:
                raise _malformed()
        return False

    def _begin_chunk(self, line: bytes) -> None:
        found = _CHUNK.fullmatch(line) if len(line) <= MAX_CHUNK_LINE else None
        if found is None:
            raise _malformed()
        if found[2] is not None:
            self._extensions += len(found[2])
            if self._extensions > MAX_EXTENSIONS:
                raise _malformed()
        self._left = int(found[1], 16)
        if len(self._body) + self._left > self._limit:
            raise too_large(self._limit)
        self._state = _DATA if self._left else _TRAILERS

    def _check_partial(self) -> None:
        most = {_DATA_END: 0, _SIZE: MAX_CHUNK_LINE, _TRAILERS: MAX_TRAILERS}[self._state]
        if len(self._partial) > most + 1 or (self._state == _DATA_END and self._partial not in b"\r"):
            raise _malformed()


def too_large(limit: int) -> HttpError:
    """The refusal of a body above the limit."""
    return HttpError(413, f"the body is larger than {limit} bytes", close=True)


def _malformed() -> HttpError:
    return HttpError(400, "the chunks of the body are malformed", close=True)
