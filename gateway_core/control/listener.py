"""The listener of the control plane: bounded connections, each with one request and one deadline."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from typing import Final, cast

from aiohttp import web

from gateway_core.control.access import Access
from gateway_core.control.app import application
from gateway_core.control.endpoint import AnyEndpoint
from gateway_core.control.plugin_pages import Operations
from gateway_core.control.responses import error_response, last_on_connection
from gateway_core.http1.hosts import HostGuard, base_url, connectable

MAX_CONNECTIONS: Final = 64
"""Maximum open connections; one more aborts the oldest, so that idle ones do not lock operators out."""
CONNECTION_TIME: Final = 10.0
"""Seconds from accepting a connection until it is aborted; a request takes milliseconds."""
MAX_STREAMS: Final = 16
"""Maximum open event streams. They do not count as connections, and take no place of those."""
STREAM_TIME: Final = 3600.0
"""Seconds until an event stream is aborted; its reader opens another one."""
BACKLOG: Final = 128
"""Connections that wait for being accepted."""
MAX_HEADERS: Final = 64
MAX_FIELD: Final = 8 * 1024
"""Bytes of the request line and of each header."""

_silent: Final = logging.getLogger("gateway_core.control.http")
"""Logger that drops the messages of aiohttp, which quote requests that it cannot parse."""
_silent.addFilter(lambda _: False)  # unlike `disabled`, stays set when logging is configured


class ControlPlane:
    """The TCP server for operators. Call `start` once, then `close`; it cannot start again."""

    def __init__(
        self, endpoints: Sequence[AnyEndpoint], operations: Operations, access: Access, guard: HostGuard
    ) -> None:
        self._runner = web.AppRunner(application(endpoints, operations, access, lambda: self._guard, self))
        self._guard = guard
        self._listeners: list[asyncio.Server] = []
        self._open: dict[_Connection, None] = {}
        self._streams: dict[_Connection, None] = {}
        self.host = ""
        """Numeric address of the listener; empty before `start`."""
        self.port = 0

    def allow(self, guard: HostGuard) -> None:
        """Check the requests that come from now on by another guard."""
        self._guard = guard

    @property
    def address(self) -> str:
        """Base URL of the listener, to connect to; empty before `start`."""
        return base_url(connectable(self.host), self.port) if self.port else ""

    async def start(self, host: str, port: int, sockets: Sequence[socket.socket] = ()) -> None:
        """Listen; port 0 takes a free one. Raises `OSError` if the address cannot be used.

        `sockets`: those of an earlier process, which listen already.
        """
        await self._runner.setup()
        try:
            create = asyncio.get_running_loop().create_server
            for sock in sockets:
                self._listeners.append(await create(self._connection, sock=sock, backlog=BACKLOG))
            if not sockets:
                listener = await create(self._connection, host, port, reuse_address=True, backlog=BACKLOG)
                self._listeners.append(listener)
        except BaseException:
            await self.close()
            await self._runner.cleanup()
            raise
        self.host, self.port = self._listeners[0].sockets[0].getsockname()[:2]

    def duplicates(self) -> list[int]:
        """Descriptors of the listening sockets, which stay open after `close`."""
        return [os.dup(sock.fileno()) for listener in self._listeners for sock in listener.sockets]

    async def close(self) -> None:
        """Stop accepting connections and abort the open ones. Safe to call twice, and before `start`."""
        if not self._listeners:
            return
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        for connection in [*self._open, *self._streams]:
            connection.abort()
        await self._runner.cleanup()

    def give_time(self, request: web.Request, seconds: float) -> None:
        """Let the connection of a request last `seconds` from now."""
        if (connection := self._of(request)) is not None:
            connection.end_after(seconds)

    def ended(self, request: web.Request) -> asyncio.Event | None:
        """The event that is set when the connection of a request ends. None if it has ended."""
        connection = self._of(request)
        return None if connection is None else connection.ended

    def keep(self, request: web.Request) -> asyncio.Event | None:
        """Keep the connection of a request for an event stream. None if too many are open.

        Returns the event that is set when the connection ends.
        """
        connection = self._of(request)
        if connection is None or len(self._streams) >= MAX_STREAMS:
            return None
        connection.become_stream(self._streams)
        return connection.ended

    def _of(self, request: web.Request) -> _Connection | None:
        """The open connection that a request came on."""
        return next((it for it in self._open if it.carries(request)), None)

    def _connection(self) -> _Connection:
        assert self._runner.server is not None, "set up by `start`"
        requests = _Requests(
            self._runner.server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # switches it off
            logger=_silent,
            lingering_time=0.0,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            auto_decompress=False,
        )
        return _Connection(requests, self._open)


class _Requests(web.RequestHandler):
    """aiohttp's protocol, which answers requests that it cannot parse as the application answers errors."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer does not quote the request, as aiohttp's own would."""
        text = "the gateway failed to serve this request" if status >= 500 else "this is not a valid HTTP request"
        return last_on_connection(error_response(text, status))


class _Connection(asyncio.Protocol):
    """One TCP connection: aiohttp's protocol, with a deadline and a connection limit."""

    def __init__(self, inner: asyncio.Protocol, everyone: dict[_Connection, None]) -> None:
        """`everyone`: all open connections, oldest first."""
        self._inner = inner
        self._everyone = everyone
        self.ended: Final = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have other base classes
        self.end_after(CONNECTION_TIME)
        self._everyone[self] = None
        if len(self._everyone) > MAX_CONNECTIONS:
            next(iter(self._everyone)).abort()
        self._inner.connection_made(transport)

    def carries(self, request: web.Request) -> bool:
        """Whether a request came on this connection."""
        return request.protocol is self._inner

    def end_after(self, seconds: float) -> None:
        """Abort the connection `seconds` from now, unless it has ended."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.abort)

    def become_stream(self, streams: dict[_Connection, None]) -> None:
        """Carry an event stream from now on. `streams`: all connections that do."""
        self._everyone.pop(self, None)
        self._everyone = streams
        streams[self] = None
        self.end_after(STREAM_TIME)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._everyone.pop(self, None)
        self.ended.set()
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def abort(self) -> None:
        """Close the connection at once; unsent data is dropped."""
        self._everyone.pop(self, None)
        if self._transport is not None:
            self._transport.abort()
