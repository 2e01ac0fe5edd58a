"""The response to an HTTP request to an upstream: its head, and its body as it arrives."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec
from multidict import CIMultiDict

from gateway_core.http1.media_types import JSON
from gateway_core.inline.driver import Completion

HIGH: Final = 256 * 1024
LOW: Final = 64 * 1024
"""Water marks for buffered body bytes: reading pauses above `HIGH` and resumes at `LOW`."""
SMALL: Final = 4 * 1024
"""Bytes below which a piece of the body grows by the next one: few pieces hold many small ones."""
MAX_SPENT: Final = 64 * 1024
"""Bytes of an unwanted body that are read so that the connection can be reused."""


class ResponseHead:
    """Status and headers of a response."""

    __slots__ = ("canonical", "content_type", "headers", "length", "reusable", "special", "status")

    def __init__(self, status: int, headers: CIMultiDict[str], *, length: int | None, reusable: bool) -> None:
        """`length`: bytes of the body, None if unknown. `reusable`: the connection stays open."""
        self.status = status
        self.headers = headers
        self.length = length
        self.reusable = reusable
        self.content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        codings = headers.getall("Content-Encoding", ())
        coded = any(coding.strip().lower() not in {"", "identity"} for coding in codings)
        self.special = coded or "Set-Cookie" in headers or 300 <= status <= 399 or status == 407
        """Whether the client has to look at more: a content coding, cookies, a redirect, the refusal of a proxy."""
        self.canonical = status == 200 and not coded and self.content_type == JSON
        """Whether the body is plain JSON with status 200."""


class Carrier(Protocol):
    """The connection that delivers a response."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abandon(self) -> None:
        """Drop the rest of the response and close the connection."""

    def linger(self) -> None:
        """Wait a moment for the rest of an unwanted response, so that the connection can be reused."""


class ClientResponse(msgspec.Struct, eq=False):
    """A response. Its body can be read once; the reader must call `close` or `spend`."""

    head: ResponseHead
    _carrier: Carrier | None
    """None once the body has ended or was given up."""
    body: bytes | None = None
    """The whole body, if the response arrived in one piece; empty once read."""
    _chunks: list[bytes] = []
    _size: int = 0
    """Bytes in `_chunks`."""
    _error: OSError | None = None
    _paused: bool = False
    _waiter: Completion[None] | None = None
    _spare: int | None = None
    """Bytes of an unwanted body that may still arrive; None while the body is wanted."""

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> CIMultiDict[str]:
        return self.head.headers

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty for none."""
        return self.head.content_type

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON, also by its older names."""
        return self.content_type in {JSON, "application/json-rpc", "application/jsonrpc"}

    @property
    def at_eof(self) -> bool:
        """Whether the body has ended and was read."""
        return self._carrier is None and not self._chunks and not self.body

    def whole(self) -> bytes | None:
        """Take the body of a response without `body`, if it ended with at most one unread chunk; else None."""
        if self._carrier is not None or self._error is not None or len(self._chunks) > 1:
            return None
        self._size = 0
        return self._chunks.pop() if self._chunks else b""

    async def read(self) -> bytes | None:
        """The next piece of the body; None at its end. Raises `OSError` if it is truncated. For one reader."""
        if self.body:
            whole, self.body = self.body, b""
            return whole
        while not self._chunks:
            error, self._error = self._error, None
            if error is not None:
                raise error
            if self._carrier is None:
                return None
            waiter = self._waiter = Completion()
            try:
                await waiter
            finally:
                self._waiter = None
        chunk = self._chunks.pop(0)
        self._size -= len(chunk)
        if self._size <= LOW:
            self._resume()
        return chunk

    def close(self) -> None:
        """Release the response. Closes the connection if the body has not ended."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.abandon()
        self._chunks.clear()
        self.wake()

    def spend(self) -> None:
        """Release the response; the connection is reused if the body soon ends within `MAX_SPENT` bytes."""
        if self._carrier is None:
            self.close()
            return
        self._spare = MAX_SPENT - self._size
        self._chunks.clear()
        self._size = 0
        self._resume()
        self._carrier.linger()

    def _resume(self) -> None:
        if self._paused and self._carrier is not None:
            self._paused = False
            self._carrier.resume()

    # -- called by the connection -------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """Add a piece of the body. Call `wake` afterwards."""
        if self._carrier is None:
            return
        if self._spare is not None:
            self._spare -= len(chunk)
            if self._spare < 0:
                self.close()
            return
        chunks = self._chunks
        if chunks and len(chunks[-1]) < SMALL:
            chunks[-1] += chunk
        else:
            chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH and not self._paused and self._carrier is not None:
            self._paused = True
            self._carrier.pause()

    def end(self, error: OSError | None = None) -> None:
        """End the body; with `error` if it is truncated. Call `wake` afterwards."""
        if self._carrier is not None:
            self._carrier, self._error = None, error

    def wake(self) -> None:
        """Resume the reader. The connection calls this after updating its own state."""
        waiter = self._waiter
        if waiter is not None:
            waiter.complete(None)
