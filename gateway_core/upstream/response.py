"""The answer to one HTTP request to an upstream: its head, and its body as it comes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from multidict import CIMultiDict

HIGH: Final = 256 * 1024
LOW: Final = 64 * 1024
"""Bytes of a body that wait for its reader: above the one no more is read, below the other again."""


class ResponseHead:
    """Status and headers."""

    __slots__ = ("content_type", "encoded", "headers", "length", "reusable", "status", "usual")

    def __init__(self, status: int, headers: CIMultiDict[str], *, length: int | None, reusable: bool) -> None:
        """`length`: bytes of the body, where they are known beforehand. `reusable`: the connection stays open."""
        self.status = status
        self.headers = headers
        self.length = length
        self.reusable = reusable
        self.content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.encoded = headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}
        """Whether the body is compressed, or the like."""
        self.usual = status == 200 and self.content_type == "application/json" and not self.encoded
        """Whether the body is what a request to an MCP server usually has for an answer."""


class Carrier(Protocol):
    """The connection that an answer comes on."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abandon(self) -> None:
        """The rest of the answer is not wanted."""


class Response:
    """An answer. Its body can be read once; `close` is due."""

    __slots__ = ("_carrier", "_chunks", "_ended", "_error", "_paused", "_size", "_waiter", "head")

    def __init__(self, head: ResponseHead, carrier: Carrier | None, body: bytes = b"") -> None:
        """Without a `carrier` the answer is complete."""
        self.head = head
        self._carrier = carrier
        self._chunks: deque[bytes] = deque((body,) if body else ())
        self._size = len(body)
        self._ended = carrier is None
        self._error: OSError | None = None
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None

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
    def at_eof(self) -> bool:
        """Whether the body was read to its end."""
        return self._ended and not self._chunks

    def taken(self) -> bytes:
        """All that has come of the body and was not read."""
        body = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return body

    def whole(self) -> bytes | None:
        """The whole body, if it is there in one piece already."""
        if not self._ended or self._error is not None or len(self._chunks) > 1:
            return None
        self._size = 0
        return self._chunks.popleft() if self._chunks else b""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces, as they come. Raises `OSError` when it breaks off."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._size -= len(chunk)
                if self._paused and self._size <= LOW and self._carrier is not None:
                    self._paused = False
                    self._carrier.resume()
                yield chunk
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def close(self) -> None:
        """Let go of it. Where the body has not come to its end, its connection is closed."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None and not self._ended:
            carrier.abandon()
        self._ended = True
        self._chunks.clear()
        self._wake()

    # -- what the connection says -------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """A piece of the body has come."""
        if self._ended:
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH and not self._paused and self._carrier is not None:
            self._paused = True
            self._carrier.pause()
        self._wake()

    def end(self, error: OSError | None = None) -> None:
        """The body has come to its end, or will not, for `error`."""
        if not self._ended:
            self._ended, self._error = True, error
            self._carrier = None
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
