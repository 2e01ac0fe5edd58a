"""The answer to one HTTP request to an upstream: its head, and its body as it comes."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec
from multidict import CIMultiDict

from gateway_core.inline.driver import Completion

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
HIGH: Final = 256 * 1024
LOW: Final = 64 * 1024
"""Bytes of a body that wait for its reader: above the one no more is read, below the other again."""
MAX_SPENT: Final = 64 * 1024
"""Bytes that are read of what is not wanted any more, to use its connection again."""


class ResponseHead:
    """Status and headers."""

    __slots__ = ("content_type", "encoded", "events", "headers", "length", "reusable", "status", "usual")

    def __init__(self, status: int, headers: CIMultiDict[str], *, length: int | None, reusable: bool) -> None:
        """`length`: bytes of the body, where they are known beforehand. `reusable`: the connection stays open."""
        self.status = status
        self.headers = headers
        self.length = length
        self.reusable = reusable
        self.content_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self.encoded = headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}
        """Whether the body is compressed, or the like."""
        plain = status == 200 and not self.encoded
        self.usual = plain and self.content_type == JSON
        """Whether the body is what a request to an MCP server usually has for an answer,"""
        self.events = plain and self.content_type == EVENT_STREAM
        """or a stream that has it among its events."""


class Carrier(Protocol):
    """The connection that an answer comes on."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abandon(self) -> None:
        """The rest of the answer is not wanted."""

    def linger(self) -> None:
        """The rest is not wanted but may come for a moment, so that the connection can be used again."""


class Response(msgspec.Struct, eq=False):
    """An answer. Its body can be read once; `close` is due."""

    head: ResponseHead
    _carrier: Carrier | None
    """None once the body has come to its end, or is not wanted any more."""
    body: bytes | None = None
    """All of it, if the answer was complete from the start; empty once it was read."""
    _chunks: list[bytes] = []
    _size: int = 0
    """Bytes in the chunks."""
    _error: OSError | None = None
    _paused: bool = False
    _waiter: Completion[None] | None = None
    _spare: int | None = None
    """Bytes that may still come where none is wanted any more."""

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
        return self._carrier is None and not self._chunks and not self.body

    def whole(self) -> bytes | None:
        """The whole body, if it is there in one piece already."""
        if self._carrier is not None or self._error is not None or len(self._chunks) > 1:
            return None
        self._size = 0
        return self._chunks.pop() if self._chunks else b""

    async def read(self) -> bytes | None:
        """The next piece of the body; None at its end. Raises `OSError` when it breaks off. For one reader."""
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
        """Let go of it. Where the body has not come to its end, its connection is closed."""
        carrier, self._carrier = self._carrier, None
        if carrier is not None:
            carrier.abandon()
        self._chunks.clear()
        self.wake()

    def spend(self) -> None:
        """Let go of it with its answer in hand: its connection is used again if little more comes, and soon."""
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

    # -- what the connection says -------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> None:
        """A piece of the body has come; `wake` is due."""
        if self._carrier is None:
            return
        if self._spare is not None:
            self._spare -= len(chunk)
            if self._spare < 0:
                self.close()
            return
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > HIGH and not self._paused and self._carrier is not None:
            self._paused = True
            self._carrier.pause()

    def end(self, error: OSError | None = None) -> None:
        """The body has come to its end, or will not, for `error`; `wake` is due."""
        if self._carrier is not None:
            self._carrier, self._error = None, error

    def wake(self) -> None:
        """Resume the reader: more has come, or the end. The connection calls it when it is done with its own state."""
        waiter = self._waiter
        if waiter is not None:
            waiter.complete(None)
