"""Readers of request bodies: with a known length, or chunked (RFC 9112 6 and 7.1)."""

from __future__ import annotations

import re
from typing import Final, Protocol

from gateway_core.http1.head import HttpError
from gateway_core.http1.tokens import CHARACTERS

MAX_CHUNK_LINE: Final = 256
"""Maximum length of a chunk's size and extensions, in bytes."""
MAX_EXTENSIONS: Final = 4 * 1024
"""Maximum length of all chunk extensions of one body, in bytes. Their content is ignored."""
MAX_TRAILERS: Final = 8 * 1024
"""Maximum length of the trailers, in bytes. Their content is ignored."""
SLICE: Final = 512
"""Lines of chunked framing that are read at once; a chunk has two."""
SLICE_COST: Final = 256 * 1024
"""The bytes of a body in large chunks that count as much as one slice."""

_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t -~\x80-\xff]*+)?")
_TRAILER: Final = re.compile(rb"([%b]++):[\t -~\x80-\xff]*+" % CHARACTERS.encode())
_NO_TRAILERS: Final = frozenset({b"content-length", b"transfer-encoding", b"host"})
"""Framing and routing fields, which must not be trailers (RFC 9110 6.5.1)."""
_DATA, _DATA_END, _SIZE, _TRAILERS = range(4)


class BodyReader(Protocol):
    """Reads one body."""

    @property
    def known(self) -> int:
        """The bytes that are announced or have arrived."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has been read."""

    def feed(self, data: bytes) -> bytes:
        """Read bytes; return those that were not read. Raises `HttpError` (400, 413).

        After a complete body they do not belong to it. Else they are to be fed again later, in front of further bytes:
        there are many small chunks, which are read in slices.
        """

    def body(self) -> bytes:
        """The complete body."""


class LengthBody:
    """A body with a known length."""

    def __init__(self, length: int) -> None:
        self.known = length
        self.complete = False
        self._left = length
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        left = self._left
        self._left -= len(data)
        if self._left > 0:
            self._body += data
            return b""
        self._body += data[:left]
        self.complete = True
        return data[left:]

    def body(self) -> bytes:
        return bytes(self._body)


class ChunkedBody:
    """A chunked body. Extensions and trailers are checked, bounded and dropped."""

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the body without its framing."""
        self.complete = False
        self._limit = limit
        self._state = _SIZE
        self._left = 0
        """Bytes missing from the current chunk."""
        self._partial = b""
        """The start of an incomplete line."""
        self._extensions = 0
        self._trailers = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        data = self._partial + data
        self._partial = b""
        position = 0
        for _ in range(SLICE):
            if self._state == _DATA:
                piece = data[position : position + self._left]
                self._body += piece
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    return b""
                self._state = _DATA_END
            end = data.find(b"\n", position)
            if end < 0:
                self._partial = data[position:]
                self._check_partial()
                return b""
            line = data[position : end - 1]
            if end == position or data[end - 1] != 13:
                raise _malformed()
            position = end + 1
            if self._take(line):
                self.complete = True
                break
        return data[position:]

    def body(self) -> bytes:
        return bytes(self._body)

    @property
    def known(self) -> int:
        return len(self._body)

    def _take(self, line: bytes) -> bool:
        """Process a framing line without its line end; return whether it is the last one."""
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
    """The error for a body above the limit."""
    return HttpError(413, f"the body is larger than {limit} bytes", close=True)


def _malformed() -> HttpError:
    return HttpError(400, "the chunks of the body are malformed", close=True)
