"""Agents' TCP connections: how many there may be, how slow, and which way their requests go.

The **short way**: a complete POST to the MCP endpoint with nothing rare about it is served by the connection itself,
without aiohttp's request and response objects. The **long way** is aiohttp's: the first byte that is anything else
gives the connection over to it, for good. What a request means, and every check of it, is the same code both ways.

One sweep a second ends what stalls: a request whose headers do not arrive (408), and an agent that does not read
what it is sent. Parse errors are answered without quoting what could not be parsed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from gateway_core.downstream.answer import Answer, Heads, Refusal, head_of
from gateway_core.downstream.head import MAX_FIELD, MAX_HEADERS, Head, HeadReader
from gateway_core.downstream.security import canonical_address
from gateway_core.downstream.stream import SSE_HEADERS, Serving

LONG_WAY: Final = "RADIUM_LONG_WAY"
"""The environment variable that, set to 1, sends all requests the long way: to find out whose a problem is."""
HEADER_TIMEOUT: Final = 10.0
"""Seconds from the first byte of a request, or from connecting, to the end of its headers."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds in which an agent must take at least some of what waits to be sent to it."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a connection may stay open between requests."""
SPARE: Final = 64
"""Connections above the limit that are kept long enough to be told so; with many allowed, as many again."""
MAX_AHEAD: Final = 64 * 1024
"""Bytes of later requests that are read while one is being served."""
PATIENCE: Final = 1.0
"""Seconds that the short way waits for the rest of a body."""
_BIG: Final = 64 * 1024
"""Bytes from which a body is not copied to stand behind its head."""

_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _Outflow:
    """Whether an agent takes what it is sent."""

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._unsent = 0
        self._since = 0.0

    def stalls(self, wire: asyncio.Transport, now: float) -> bool:
        """Whether it has taken nothing for `WRITE_TIMEOUT`; to be asked again and again."""
        unsent = wire.get_write_buffer_size()
        if not unsent or unsent < self._unsent or not self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since > WRITE_TIMEOUT


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

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._wire: asyncio.Transport | None = None
        self._data = b""
        """What has come and was not served yet: the beginning of a request, or requests after the one being served."""
        self._serving: Serving | None = None
        self._fresh = True
        """Whether a request came since the last sweep."""
        self._idle_since = 0.0
        self._outflow = _Outflow()
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
        while data and self._wire is not None:
            end = data.find(b"\r\n\r\n") + 4
            head = self._server.heads.read(data[:end]) if end > 3 and self._server.short else None
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
            found = self._server.begin(self, head, data[end:size])
            if found is None:
                return self._go_the_long_way(data)
            data = self._data = data[size:]
            if isinstance(found, Serving):
                self._serving = found
                found.task.add_done_callback(self._answered)
                return None
            self._send(found)
        return None

    def _go_the_long_way(self, data: bytes) -> None:
        """Give the connection to aiohttp, with all that was not served yet."""
        wire, self._wire = self._wire, None
        self._data = b""
        if wire is None or wire.is_closing():
            return
        other = self._server.long_way()
        self._server.replaced(self, other)
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

    def _answered(self, task: asyncio.Task[Any]) -> None:
        """The request that is being served has its answer."""
        serving = self._serving
        if serving is None or serving.task is not task:
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

    def _streamed(self, _: asyncio.Task[Any]) -> None:
        """The stream of the answer has been written."""
        if self._wire is not None and not self._wire.is_closing():
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
                wire.write(_TIMED_OUT)
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
        serving = self._serving
        tasks = [] if serving is None else [serving.task, serving.reply.writer]
        return [task for task in tasks if task is not None]

    def close(self) -> None:
        """Hang up once what was written is sent."""
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """Hang up."""
        if self._wire is not None:
            self._wire.abort()


class LongWay(web.RequestHandler):
    """One TCP connection that aiohttp serves."""

    def __init__(self, server: AgentServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._wire: asyncio.Transport | None = None
        self._outflow = _Outflow()
        self.admitted = False
        self.waiting_since: float | None = None
        """When the request began whose headers are not complete yet; None when there is none."""
        self.serving = False
        self._newest: StreamReader = EMPTY_PAYLOAD
        self._partial = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._wire = None
        self._server.farewell(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.waiting_since is None and not self.serving:
            self.waiting_since = time.monotonic()
        # aiohttp's parser does not tell whether it holds half a header. The last byte does: a message ends with it,
        # or it is in a body, or else more of a header is to come.
        if len(data) > 1:
            self._parse(data[:-1])
        ended = self._parse(data[-1:])
        if data or ended:  # without data: aiohttp goes on with what it had put off
            self._partial = not ended and self._newest.is_eof()

    def _parse(self, data: bytes) -> bool:
        """Hand `data` to the parser; whether a message became complete."""
        count, in_body = self._request_count, not self._newest.is_eof()
        super().data_received(data)
        if self._request_count > count and self._messages:
            self._newest = self._messages[-1][1]
            in_body = True
        return in_body and self._newest.is_eof()

    def served(self) -> None:
        """A handler has ended; if half a header came meanwhile, its clock starts now."""
        self.serving = False
        if self._partial and not self._messages:
            self.waiting_since = time.monotonic()

    def sweep(self, now: float) -> None:
        """End the connection if it stalls."""
        wire = self._wire
        if wire is None:
            return
        if self.waiting_since is not None and now - self.waiting_since > HEADER_TIMEOUT:
            self.waiting_since = None
            if not wire.is_closing():
                wire.write(_TIMED_OUT)
            self.force_close()
        if self._outflow.stalls(wire, now):
            wire.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP; neither the answer nor the log quotes it."""
        del request, message
        if isinstance(exc, LineTooLong):
            return Refusal(431, "the request line or a header is too long", close=True).answer().response()
        if exc is not None and "Too many headers" in str(exc):
            return Refusal(431, f"more than {MAX_HEADERS} headers", close=True).answer().response()
        if status < 500:
            return Refusal(400, "this is not a valid HTTP request", close=True).answer().response()
        return Refusal(status, "the gateway failed to serve this request", close=True).answer().response()


class AgentServer(web.Server):
    """Makes and counts connections. A handler of the long way is cancelled when its agent disconnects."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        heads: HeadReader,
        begin: Callable[[AgentConnection, Head, bytes], Answer | Serving | None],
        failed: Callable[[Exception], Refusal],
        max_connections: int,
    ) -> None:
        """`handler` serves the requests of the long way, `begin` those of the short one; `failed` is told of bugs."""
        super().__init__(handler, handler_cancellation=True)
        self.short = os.environ.get(LONG_WAY) != "1"
        """Whether there is a short way at all."""
        self.heads = heads
        self.answers = Heads()
        self.begin = begin
        self._failed = failed
        self._open: set[AgentConnection | LongWay] = set()
        self._max = max_connections
        self.admitted = 0
        """Connections that count; those above the limit do not."""

    def __call__(self) -> AgentConnection:  # type: ignore[override]  # what aiohttp makes comes later
        return AgentConnection(self)

    def long_way(self) -> LongWay:
        """A connection for aiohttp to serve."""
        return LongWay(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=2.0,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            auto_decompress=False,
        )

    def failed(self, error: Exception) -> Answer:
        """What an agent gets after a bug."""
        return self._failed(error).answer()

    def welcome(self, connection: AgentConnection) -> bool:
        """Take a new connection in; False when there are so many that it cannot even be told why not."""
        self._open.add(connection)
        self.admit(connection)
        return len(self._open) <= self._max + max(self._max * 3, SPARE)

    def replaced(self, connection: AgentConnection, other: LongWay) -> None:
        """`other` is in the place of `connection`."""
        self._open.remove(connection)
        self._open.add(other)
        other.admitted, connection.admitted = connection.admitted, False
        other.waiting_since = connection.waiting_since

    def admit(self, connection: AgentConnection | LongWay) -> bool:
        """Whether this connection may be served, now that it asks; one above the limit gets in when there is room."""
        if not connection.admitted and self.admitted < self._max:
            connection.admitted = True
            self.admitted += 1
        return connection.admitted

    def farewell(self, connection: AgentConnection | LongWay) -> None:
        self._open.discard(connection)
        if connection.admitted:
            connection.admitted = False
            self.admitted -= 1

    def sweep(self) -> None:
        """End the connections that stall; called about once a second."""
        now = time.monotonic()
        for connection in list(self._open):
            connection.sweep(now)

    def pre_shutdown(self) -> None:
        """Hang up where nothing is being served."""
        super().pre_shutdown()
        for connection in self._short_ones():
            if not connection.busy:
                connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Hang up everywhere, after `timeout` seconds where something is still being served."""
        busy = [task for connection in self._short_ones() for task in connection.tasks()]
        if busy:
            await asyncio.wait(busy, timeout=timeout)
            await asyncio.sleep(0)  # for the callbacks that write the answers
        for connection in self._short_ones():
            if connection.busy:
                connection.abort()
            else:
                connection.close()
        await super().shutdown(timeout)

    def _short_ones(self) -> list[AgentConnection]:
        return [connection for connection in self._open if isinstance(connection, AgentConnection)]
