"""Agents' TCP connections: how many there may be, and how slow.

One sweep a second ends what stalls: a request whose headers do not arrive (408), and an agent that does not read
what it is sent. Parse errors are answered without quoting what could not be parsed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from gateway_core.downstream.intake import Refusal

HEADER_TIMEOUT: Final = 10.0
"""Seconds from the first byte of a request, or from connecting, to the end of its headers."""
WRITE_TIMEOUT: Final = 30.0
"""Seconds in which an agent must take at least some of what waits to be sent to it."""
IDLE_TIMEOUT: Final = 75.0
"""Seconds that a connection may stay open between requests."""
SPARE: Final = 64
"""Connections above the limit that are kept long enough to be told so; with many allowed, as many again."""

MAX_HEADERS: Final = 100
MAX_FIELD: Final = 16 * 1024

_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class AgentConnection(web.RequestHandler):
    """One TCP connection, as the sweep sees it."""

    def __init__(self, server: AgentServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._wire: asyncio.Transport | None = None
        self._unsent = 0
        self._unsent_since = 0.0
        self.admitted = False
        self.waiting_since: float | None = None
        """When the request began whose headers are not complete yet; None when there is none."""
        self.serving = False
        self._newest: StreamReader = EMPTY_PAYLOAD
        self._partial = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._wire = cast(asyncio.Transport, transport)  # uvloop's transports have other bases
        self.waiting_since = time.monotonic()
        if not self._server.welcome(self):
            self._wire.abort()

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
        unsent = wire.get_write_buffer_size()
        if not unsent or unsent < self._unsent or not self._unsent:
            self._unsent_since = now
        elif now - self._unsent_since > WRITE_TIMEOUT:
            wire.abort()
        self._unsent = unsent

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
            return Refusal(431, "the request line or a header is too long", close=True).response()
        if exc is not None and "Too many headers" in str(exc):
            return Refusal(431, f"more than {MAX_HEADERS} headers", close=True).response()
        if status < 500:
            return Refusal(400, "this is not a valid HTTP request", close=True).response()
        return Refusal(status, "the gateway failed to serve this request", close=True).response()


class AgentServer(web.Server):
    """Makes and counts connections. A handler is cancelled when its agent disconnects."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], max_connections: int
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._open: set[AgentConnection] = set()
        self._max = max_connections
        self.admitted = 0
        """Connections that count; those above the limit do not."""

    def __call__(self) -> AgentConnection:
        return AgentConnection(
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

    def welcome(self, connection: AgentConnection) -> bool:
        """Take a new connection in; False when there are so many that it cannot even be told why not."""
        self._open.add(connection)
        self.admit(connection)
        return len(self._open) <= self._max + max(self._max * 3, SPARE)

    def admit(self, connection: AgentConnection) -> bool:
        """Whether this connection may be served, now that it asks; one above the limit gets in when there is room."""
        if not connection.admitted and self.admitted < self._max:
            connection.admitted = True
            self.admitted += 1
        return connection.admitted

    def farewell(self, connection: AgentConnection) -> None:
        self._open.discard(connection)
        if connection.admitted:
            connection.admitted = False
            self.admitted -= 1

    def sweep(self) -> None:
        """End the connections that stall; called about once a second."""
        now = time.monotonic()
        for connection in list(self._open):
            connection.sweep(now)
