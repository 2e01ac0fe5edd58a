"""The short way: a usual request is served by its connection itself, without aiohttp's request and response objects.

A complete POST to the MCP endpoint with nothing rare about it is usual, and so is the GET of a legacy agent's stream.
The first byte that is anything else gives the connection over to aiohttp, for good. What a request means, and every
check of it, is the same code both ways.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from gateway_core.downstream.answer import Answer, Heads, head_of
from gateway_core.downstream.head import Head, HeadReader
from gateway_core.downstream.outflow import Outflow
from gateway_core.downstream.security import canonical_address
from gateway_core.downstream.serving import Serving, Streaming
from gateway_core.downstream.stream import SSE_HEADERS

HEADER_TIMEOUT: Final = 10.0
"""Seconds from the first byte of a request, or from connecting, to the end of its headers."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a connection may stay open between requests."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of later requests that are read while one is being served."""
PATIENCE: Final = 1.0
"""Seconds that the short way waits for the rest of a body."""
_BIG: Final = 64 * 1024
"""Bytes from which a body is not copied to stand behind its head."""

TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server(Protocol):
    """What a connection needs of `connections.AgentServer`."""

    short: bool
    heads: HeadReader
    answers: Heads
    begin: Callable[[AgentConnection, Head, bytes], Answer | Serving | Streaming | None]

    def failed(self, error: BaseException) -> Answer: ...
    def welcome(self, connection: AgentConnection) -> bool: ...
    def farewell(self, connection: AgentConnection) -> None: ...
    def long_way(self, connection: AgentConnection) -> asyncio.Protocol: ...


class AgentConnection(asyncio.Protocol):
    """One TCP connection on the short way."""

    __slots__ = (
        "_data",
        "_drained",
        "_fresh",
        "_idle_since",
        "_outflow",
        "_paused",
        "_server",
        "_serving",
        "_wire",
        "address",
        "admitted",
        "waiting_since",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wire: asyncio.Transport | None = None
        self._data = b""
        """What has come and was not served yet: the beginning of a request, or requests after the one being served."""
        self._serving: Serving | Streaming | None = None
        self._fresh = True
        """Whether a request came since the last sweep."""
        self._idle_since = 0.0
        self._outflow = Outflow()
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self.address = ""
        self.admitted = False
        self.waiting_since: float | None = None
        """When the request began that is not complete yet; None when there is none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = self._wire = cast(asyncio.Transport, transport)  # uvloop's transports have other bases
        peer = wire.get_extra_info("peername")
        self.address = canonical_address(str(peer[0]) if peer else "")
        sock = wire.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.waiting_since = time.monotonic()
        if not self._server.welcome(self):
            wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._server.farewell(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError("the agent has gone"))
            self._drained.exception()  # mostly nobody waits: an answer is written at once, however large it is
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.lost()

    # -- requests -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        if self._serving is None:
            self._take(data)
        else:
            self._data = data
            if len(data) > MAX_AHEAD and not self._paused and self._wire is not None:
                self._paused = True
                self._wire.pause_reading()

    def _take(self, data: bytes) -> None:
        """Serve what is complete in `data`, as far as that goes."""
        server = self._server
        while data and self._wire is not None:
            end = data.find(b"\r\n\r\n") + 4
            head = server.heads.read(data[:end]) if end > 3 and server.short else None
            if head is None:
                return self._go_the_long_way(data)
            size = end + head.length
            if len(data) < size:
                self._data = data
                if self.waiting_since is None or self._fresh:
                    self.waiting_since = time.monotonic()
                    self._fresh = False
                return None
            self._fresh = True
            self.waiting_since = None
            found = server.begin(self, head, data[end:size])
            if found is None:
                return self._go_the_long_way(data)
            data = self._data = data[size:]
            if isinstance(found, Answer):
                self._send(found)
                continue
            self._serving = found
            found.running.add_done_callback(self._answered if isinstance(found, Serving) else self._streamed)
            return None
        return None

    def _go_the_long_way(self, data: bytes) -> None:
        """Give the connection to aiohttp, with all that was not served yet."""
        wire, self._wire = self._wire, None
        self._data = b""
        if wire is None or wire.is_closing():
            return
        other = self._server.long_way(self)
        wire.set_protocol(other)
        other.connection_made(wire)
        other.data_received(data)

    # -- answers ------------------------------------------------------------------------------------------------

    def _send(self, answer: Answer) -> None:
        wire, body = self._wire, answer.body
        if wire is None or wire.is_closing():
            return
        head = self._server.answers.of(answer)
        if len(body) < _BIG:
            wire.write(head + body)
        else:
            wire.writelines((head, body))
        if answer.close:
            wire.close()

    def _answered(self, running: object) -> None:
        """The request that is being served has its answer."""
        serving = self._serving
        if not isinstance(serving, Serving) or serving.running is not running:
            return  # nobody is there any more
        try:
            answer = serving.answer()
        except asyncio.CancelledError:  # by the gateway itself, which is about to stop
            self.abort()
            return
        except Exception as error:  # noqa: BLE001 - what a task ends in that never raises is a bug
            answer = self._server.failed(error)
        if serving.reply.is_plain(answer):
            self._send(answer)
            self._next()
        else:
            serving.reply.conclude(answer.body)
            assert serving.reply.writer is not None
            serving.reply.writer.add_done_callback(self._streamed)

    def _streamed(self, task: asyncio.Task[Any]) -> None:
        """The stream of the answer has been written."""
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self._server.failed(error)
        if task.cancelled() or error is not None:  # the gateway is about to stop, or there is nobody to hear more
            self.abort()
        elif self._wire is not None and not self._wire.is_closing():
            self._wire.write(b"0\r\n\r\n")
            self._next()

    def _next(self) -> None:
        self._serving = None
        if self._paused and self._wire is not None:
            self._paused = False
            self._wire.resume_reading()
        if self._data:
            self._take(self._data)

    async def begin_stream(self) -> AgentConnection:
        """Begin the answer as a stream. Raises `ConnectionError`."""
        if self._wire is None or self._wire.is_closing():
            raise ConnectionResetError("the agent has gone")
        self._wire.write(head_of(200, {**SSE_HEADERS, "Transfer-Encoding": "chunked"}) + b"\r\n")
        return self

    async def write(self, data: bytes) -> None:
        """Send a piece of a stream, and wait while the agent has too much to read. Raises `ConnectionError`."""
        if self._wire is None or self._wire.is_closing():
            raise ConnectionResetError("the agent has gone")
        self._wire.write(b"%x\r\n%b\r\n" % (len(data), data))
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # -- time ---------------------------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """End the connection if it stalls, or was not used for long."""
        wire = self._wire
        if wire is None:
            return
        if self._outflow.stalls(wire, now):
            wire.abort()
        elif self._serving is not None:
            self._serving.look(now)
        elif self._data:
            if self.waiting_since is not None and now - self.waiting_since > PATIENCE:
                self._go_the_long_way(self._data)
        elif self.waiting_since is not None:  # not a byte yet
            if now - self.waiting_since > HEADER_TIMEOUT:
                wire.write(TIMED_OUT)
                wire.close()
        elif self._fresh:
            self._fresh = False
            self._idle_since = now
        elif now - self._idle_since > IDLE_TIMEOUT:
            wire.close()

    @property
    def busy(self) -> bool:
        """Whether a request is being served."""
        return self._serving is not None

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What the answer to the request that is being served waits for."""
        return [] if self._serving is None else self._serving.tasks()

    def close(self) -> None:
        """Hang up once what was written is sent."""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """Hang up."""
        if self._wire is not None:
            self._wire.abort()
