"""The sending side of a connection: responses, back-pressure, and the write-stall detector."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway_core.http1.head import RequestHead
from gateway_core.http1.response import Response, ResponseHeads

_BIG: Final = 64 * 1024
"""Size in bytes from which a body is not copied to join its head."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds within which a peer must read at least part of the unsent bytes."""


def pauses(version: Sequence[Any]) -> bool:
    """Whether `writelines` of this Python's own transports pauses the protocol, as `write` does (CVE-2024-12254)."""
    minor, micro = version[1:3]
    return version[0] > 3 or minor not in {12, 13} or (minor, micro) >= (13, 2) or (minor == 12 and micro >= 9)


_PAUSES: Final = pauses(sys.version_info)


class ResponseWriter:
    """Writes responses to one transport.

    A TLS transport passes each write on to its TCP transport completely and does not count it any more. So over TLS the
    writer keeps a backlog and passes on as much as the transport has room for.
    """

    __slots__ = (
        *("_backlog", "_counted", "_drained", "_heads", "_keep", "_owner", "_since", "_transport", "_unsent"),
        *("paused", "write"),
    )

    def __init__(self, transport: asyncio.Transport, heads: ResponseHeads, keep: Callable[[str, int], bool]) -> None:
        """`keep` counts bytes that the peer does not read; see `Application.keep`."""
        self._transport = transport
        self._heads = heads
        self._keep = keep
        self._counted = 0
        """Bytes that `keep` has counted for `_owner`."""
        self._owner = ""
        self._backlog: deque[memoryview] | None = None
        """Pieces that wait for room; None without TLS."""
        self.write: Callable[[bytes], object] = transport.write
        """Writes bytes in order."""
        if transport.get_extra_info("sslcontext") is not None:
            self._backlog = deque()
            self.write = self._write_pieces
        self.paused = False
        """Whether the transport's buffer is full."""
        self._drained: asyncio.Future[None] | None = None
        self._unsent = 0
        self._since = 0.0

    def send(self, response: Response, head: RequestHead | None, *, close: bool) -> bool:
        """Send a complete response; return whether the connection ends after it.

        `head`: the request's; None if it could not be parsed. `close`: end the connection in any case.
        """
        body = response.body
        if not (close or response.close or response.headers) and response.status == 200 and head and head.canonical:
            lines = self._heads.canonical + b"%d\r\n\r\n" % len(body)
        else:
            close = close or response.close or head is None or not head.keep_alive
            lines = self._heads.of(response, head, close=close)
            if head is not None and head.method == "HEAD":
                body = b""
        if len(body) < _BIG:
            self.write(lines + body)
        elif self._backlog is None and _PAUSES:
            self._transport.writelines((lines, body))
        else:
            self.write(lines)
            self.write(body)
        return close

    def begin_stream(self, headers: Mapping[str, str], head: RequestHead) -> ResponseStream:
        """Begin a streamed response with status 200. `head`: the request's."""
        chunked = head.minor == 1
        if chunked:
            headers = {**headers, "Transfer-Encoding": "chunked"}
        close = not (chunked and head.keep_alive)
        self.write(self._heads.lines(200, headers, head, close=close))
        return ResponseStream(self._transport, self, chunked=chunked, close=close)

    def pause(self, owner: str) -> None:
        """Make `drain` wait: the transport's buffer is full. Without room for what is in it, the connection ends.

        `owner`: whom its bytes count for; see `Route.owner`.
        """
        self.paused = True
        self._forget()
        unsent = self.unsent
        if self._keep(owner, unsent):
            self._counted, self._owner = unsent, owner
        else:
            asyncio.get_running_loop().call_soon(self._transport.abort)

    def _forget(self) -> None:
        counted, self._counted = self._counted, 0
        if counted:
            self._keep(self._owner, -counted)

    def resume(self) -> None:
        """Resume `drain`: the transport's buffer has room."""
        self.paused = False
        self._pass_on()
        if self.paused:
            return
        self._forget()
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def lost(self) -> None:
        """Fail a waiting `drain`: the connection is lost."""
        self.paused = False
        self._forget()
        # Without these references, the connection is freed without the garbage collector.
        self._keep = _uncounted
        if self._backlog is not None:
            self._backlog.clear()
            self.write = self._transport.write
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the connection is lost"))
            self._drained.exception()  # retrieved, because often no `drain` waits

    async def drain(self) -> None:
        """Wait for room in the transport's buffer. Raises `ConnectionError`."""
        if self.paused:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
        elif self._backlog is not None:
            await asyncio.sleep(0)  # over TLS, only the event loop can report that the connection is lost

    @property
    def unsent(self) -> int:
        """Bytes that the operating system has not taken yet; over TLS, up to some 100 KB of them do not count."""
        size = self._transport.get_write_buffer_size()
        return size + sum(map(len, self._backlog)) if self._backlog else size

    def _write_pieces(self, data: bytes) -> None:
        assert self._backlog is not None
        view = memoryview(data)
        self._backlog += [view[start : start + _BIG] for start in range(0, len(data), _BIG)]
        self._pass_on()

    def _pass_on(self) -> None:
        while self._backlog and not self.paused:
            self._transport.write(self._backlog.popleft())

    def stalled(self, now: float) -> bool:
        """Whether the peer has read nothing for `WRITE_TIMEOUT`. Call it regularly; `now`: monotonic clock."""
        unsent = self.unsent
        if not unsent or unsent < self._unsent or not self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since > WRITE_TIMEOUT


def _uncounted(_: str, __: int) -> bool:
    """Count no bytes."""
    return True


class ResponseStream:
    """A streamed response."""

    __slots__ = ("_chunked", "_ended", "_transport", "_writer", "close")

    def __init__(self, transport: asyncio.Transport, writer: ResponseWriter, *, chunked: bool, close: bool) -> None:
        """Without `chunked`, the end of the connection ends the response."""
        self._transport = transport
        self._writer = writer
        self.close = close
        """Whether the connection ends after the response."""
        self._chunked = chunked
        self._ended = False

    async def write(self, data: bytes) -> None:
        """Send a piece, then wait for room in the buffer. Raises `ConnectionError`."""
        if self._ended or self._transport.is_closing():
            raise ConnectionResetError("the connection is lost")
        if data:
            self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        await self._writer.drain()

    def end(self) -> None:
        """End the response; later writes fail."""
        self._ended = True
        if self._chunked:
            self._writer.write(b"0\r\n\r\n")
