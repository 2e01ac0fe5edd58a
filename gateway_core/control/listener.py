"""The listener of the control plane: bounded connections, each with one request and one deadline."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

from gateway_core.control.access import Access
from gateway_core.control.endpoint import AnyEndpoint
from gateway_core.http1.hosts import HostGuard, base_url, connectable
from gateway_core.supervised import failed

if TYPE_CHECKING:
    from aiohttp import web

    from gateway_core.control.app import Http
    from gateway_core.control.plugin_pages import Operations

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


class ControlPlane:
    """The TCP server for operators. Call `start` once, then `close`; it cannot start again.

    The first connection loads the application that serves requests; `load` does it without one.
    """

    def __init__(
        self,
        endpoints: Callable[[], Sequence[AnyEndpoint]],
        operations: Operations,
        access: Access,
        guard: HostGuard,
    ) -> None:
        """`endpoints` is called to load the application, once and in a thread."""
        self._endpoints = endpoints
        self._operations = operations
        self._access = access
        self._guard = guard
        self._http: Http | None = None
        """None until it is loaded."""
        self._loading: asyncio.Task[None] | None = None
        self._listeners: list[asyncio.Server] = []
        self._closed = False
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

        `sockets`: those of an earlier process, which listen already. Requests wait until the application is loaded.
        """
        try:
            create = asyncio.get_running_loop().create_server
            for sock in sockets:
                self._listeners.append(await create(self._connection, sock=sock, backlog=BACKLOG))
            if not sockets:
                listener = await create(self._connection, host, port, reuse_address=True, backlog=BACKLOG)
                self._listeners.append(listener)
        except BaseException:
            await self.close()
            raise
        self.host, self.port = self._listeners[0].sockets[0].getsockname()[:2]

    async def load(self) -> None:
        """Load the application, and serve the requests that wait. Safe to call twice, also concurrently.

        Raises what the import raises. The connections that wait are aborted then, and so are later ones.

        Importing aiohttp and the endpoints takes a quarter of the CPU time of a start. So the gateway listens for
        agents first. An operator who connects earlier begins the loading. It runs in a thread, because agents may be
        served meanwhile.
        """
        await asyncio.shield(self._begin_loading())

    def _begin_loading(self) -> asyncio.Task[None]:
        if self._loading is None:
            self._loading = asyncio.create_task(self._load(), name="load the control plane")
            self._loading.add_done_callback(self._loaded)
        return self._loading

    async def _load(self) -> None:
        http = await asyncio.to_thread(self._made)
        await http.start()
        self._http = http
        for connection in [*self._open]:
            connection.begin_reading()

    def _loaded(self, loading: asyncio.Task[None]) -> None:
        """Log a failure, since `load` may have no caller, and abort the connections that wait."""
        if loading.cancelled() or (error := loading.exception()) is None:
            return
        failed("loading the control plane", error)
        for connection in [*self._open]:
            connection.abort()

    def _made(self) -> Http:
        from gateway_core.control.app import Http, application  # noqa: PLC0415 - see `load`

        return Http(application(self._endpoints(), self._operations, self._access, lambda: self._guard, self))

    def duplicates(self) -> list[int]:
        """Descriptors of the listening sockets, which stay open after `close`."""
        return [os.dup(sock.fileno()) for listener in self._listeners for sock in listener.sockets]

    async def close(self) -> None:
        """Stop accepting connections and abort the open ones. Safe to call twice, and before `start`."""
        if not self._listeners:
            return
        self._closed = True
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.close()
        for connection in [*self._open, *self._streams]:
            connection.abort()
        if self._loading is not None:
            await asyncio.wait({self._loading})
        if self._http is not None:
            await self._http.close()

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
        return _Connection(self._protocol, self._open)

    def _protocol(self) -> asyncio.Protocol | None:
        """The protocol for one connection. None while the application is loaded, which this begins.

        Raises `ConnectionAbortedError` if no request can be served any more.
        """
        if self._closed:
            raise ConnectionAbortedError("the control plane is closed")
        if self._http is not None:
            return self._http.protocol()
        if self._begin_loading().done():
            raise ConnectionAbortedError("the control plane could not be loaded")
        return None


class _Connection(asyncio.Protocol):
    """One TCP connection: the protocol that reads its requests, with a deadline and a connection limit."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol | None], everyone: dict[_Connection, None]) -> None:
        """`protocol`: makes the protocol that reads the requests; see `begin_reading`.

        `everyone`: all open connections, oldest first.
        """
        self._protocol = protocol
        self._inner: asyncio.Protocol | None = None
        self._everyone = everyone
        self.ended: Final = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._waiting = b""
        """What arrived before there was a protocol to read it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports have other base classes
        self.end_after(CONNECTION_TIME)
        self._everyone[self] = None
        if len(self._everyone) > MAX_CONNECTIONS:
            next(iter(self._everyone)).abort()
        self.begin_reading()

    def begin_reading(self) -> None:
        """Read the requests, from the first byte on, if `protocol` returns one. A failure aborts the connection."""
        assert self._transport is not None, "open connections have one"
        try:
            self._inner = self._protocol()
            if self._inner is None:
                return
            self._inner.connection_made(self._transport)
            if self._waiting:
                self._transport.resume_reading()
                self._inner.data_received(self._waiting)
                self._waiting = b""
        except OSError:  # the operator has reset the connection, or it came too late
            self.abort()
        except Exception as error:  # noqa: BLE001 - the other connections still have to be read
            failed("beginning a connection of an operator", error)
            self.abort()

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
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
            return
        assert self._transport is not None, "set by `connection_made`"
        self._waiting += data
        self._transport.pause_reading()  # more would have to be kept

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def abort(self) -> None:
        """Close the connection at once; unsent data is dropped."""
        self._everyone.pop(self, None)
        if self._transport is not None:
            self._transport.abort()
