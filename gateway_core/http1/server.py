"""The HTTP server: its listening socket, bounded connections, polled timeouts, and draining."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from gateway_core.http1.application import Application, Client, Completion, PendingResponse
from gateway_core.http1.connection import ServerConnection
from gateway_core.http1.connection_limit import ConnectionLimit
from gateway_core.http1.handshake import FailedHandshakes, Handshake, HandshakePace
from gateway_core.http1.head import RequestHead
from gateway_core.http1.response import Response, ResponseHeads
from gateway_core.limits.pace import Pace

SPARE: Final = 64
"""Minimum number of connections that may be open in addition to the limit."""

BODY_RATE: Final = 4 * 1024 * 1024
BODY_BURST: Final = 8 * 1024 * 1024
"""Bytes per second, and at once, that one owner (a network, or `Route.owner`) may send in bodies of several pieces, and
after a refusal."""
BACKLOG: Final = 1024
"""Connections that wait for being accepted."""
MOVE_INTERVAL: Final = 0.01
"""Seconds between two looks whether connections can be moved."""
MAX_MOVED: Final = 20_000
"""Connections that are moved to another process."""
MAX_PACES: Final = 1024
"""Owners whose pace is remembered."""


class DeferredRequest:
    """A request that waits for the next process. Implements `PendingResponse`: here, its response never comes."""

    def __init__(self, head: RequestHead, body: bytes) -> None:
        self.running: Completion = _Never()
        framed = body
        if head.chunked:
            framed = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
        self.received: Final = "\r\n".join(head.lines).encode("latin-1") + framed
        """The request as its client may have sent it."""

    def response(self) -> None:
        """Not called."""

    def poll(self, now: float) -> None:
        """Nothing."""

    def lost(self) -> None:
        """Nothing: the request had no effect."""


class _Never:
    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Nothing: it never completes."""


class MovableConnection(ServerConnection):
    """A connection that another process can continue."""

    __slots__ = ("_deferred",)

    def __init__(self, server: HttpServer, received: bytes = b"") -> None:
        """`received`: what an earlier process received on it and did not serve."""
        super().__init__(server)
        self._deferred: DeferredRequest | None = None
        self._reader.feed(received)

    def go_on(self) -> None:
        """Serve what the earlier process received; between requests, wait as after one."""
        self._since = None
        self._process()

    def defer(self, head: RequestHead, body: bytes) -> Response | PendingResponse:
        self._deferred = DeferredRequest(head, body)
        return self._deferred

    def serve_deferred(self) -> None:
        """Serve the deferred request, and those after it."""
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            self.pending = self._head = None
            self._reader.restore(deferred.received)
            self._next()

    @property
    def stays_open(self) -> bool:
        """Whether it serves further requests after the present one."""
        return self._transport is not None and not self._transport.is_closing() and not self._ending

    def give_up(self) -> tuple[int, bytes] | None:
        """A descriptor of the connection, and what was received and not served. None if it cannot be moved now.

        Here, the connection is lost; for its client nothing happens.
        """
        transport, writer = self._transport, self._writer
        is_served = self.pending is not None and self._deferred is None
        if transport is None or writer is None or not self.stays_open or is_served:
            return None
        if writer.unsent or self._handler is not None:
            return None
        try:
            descriptor = os.dup(transport.get_extra_info("socket").fileno())
        except OSError:  # the process has no more descriptors; the connection ends with this process
            return None
        received = self._reader.buffer if self._deferred is None else self._deferred.received + self._reader.buffer
        self.abort()
        return descriptor, received


class HttpServer:
    """Serves one application. Call `poll` about once a second."""

    def __init__(self, application: Application, *, name: str, max_body: int, max_connections: int) -> None:
        """`name`: value of the header `Server`. `max_body`: bytes. `max_connections`: see `admit`."""
        self.application = application
        self.max_body = max_body
        self.heads = ResponseHeads(name)
        self.draining = False
        """Whether connections close after their current response."""
        self.port = 0
        """The listening port, set by `start`."""
        self._open: set[ServerConnection | Handshake] = set()
        self._admitted = ConnectionLimit(max_connections)
        self._sockets = ConnectionLimit(_sockets(max_connections))
        self._paces: dict[str, Pace] = {}
        self._emptied = asyncio.Event()
        self._listeners: list[asyncio.Server] = []
        self._tls: ssl.SSLContext | None = None
        self._handshakes = HandshakePace()
        self._failed_handshakes = FailedHandshakes()

    async def start(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, sockets: Sequence[socket.socket] = ()
    ) -> None:
        """Listen; port 0 chooses a free one. `tls`: the context of a server that speaks TLS; None for plain TCP.

        `sockets`: those of an earlier process, which listen already. Raises `OSError` if the address cannot be used.
        """
        self._tls = tls
        create = asyncio.get_running_loop().create_server
        for sock in sockets:
            self._listeners.append(await create(self._connection, sock=sock, backlog=BACKLOG))
        if not sockets:
            listener = await create(self._connection, host, port, reuse_address=True, backlog=BACKLOG)
            self._listeners.append(listener)
        self.port = self._listeners[0].sockets[0].getsockname()[1]

    def _connection(self) -> asyncio.Protocol:
        return MovableConnection(self) if self._tls is None else Handshake(self)

    def duplicates(self) -> list[int]:
        """Descriptors of the listening sockets, which stay open when this server stops accepting."""
        return [os.dup(sock.fileno()) for listener in self._listeners for sock in listener.sockets]

    async def adopt(self, descriptor: int, received: bytes) -> None:
        """Continue a connection of an earlier process, which has received these bytes. With TLS, it ends."""
        sock = socket.socket(fileno=descriptor)
        if self._tls is not None:
            sock.close()
            return
        connection = MovableConnection(self, received)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        connection.go_on()

    async def hand_over(self, grace: float) -> list[tuple[int, bytes]]:
        """Give up the connections, for another process to `adopt`: their descriptors, and the bytes to serve first.

        Those that send a request or read a response have `grace` seconds to come to its end; others cannot be moved.
        """
        until = time.monotonic() + grace
        moved = list[tuple[int, bytes]]()
        while True:
            left = [it for it in self._open if isinstance(it, MovableConnection)]
            moved += [found for it in left if (found := it.give_up()) is not None]
            if len(moved) >= MAX_MOVED or time.monotonic() >= until or not any(it.stays_open for it in left):
                return moved
            await asyncio.sleep(MOVE_INTERVAL)

    def serve_deferred(self) -> None:
        """Serve the requests that were deferred: there is no next process."""
        for connection in list(self._open):
            if isinstance(connection, MovableConnection):
                connection.serve_deferred()

    def limit_to(self, max_body: int, max_connections: int) -> None:
        """Apply other limits, from the next request and the next connection on."""
        self.max_body = max_body
        self._admitted.limit_to(max_connections)
        self._sockets.limit_to(_sockets(max_connections))

    def reroute(self) -> None:
        """Choose the handlers of all requests again that are not complete yet: the application has changed."""
        for connection in list(self._open):
            if isinstance(connection, ServerConnection):
                connection.reroute()

    def pending(self) -> list[PendingResponse]:
        """The responses that connections wait for, and the streams that are open."""
        return [pending for it in self._open if (pending := it.pending) is not None]

    def route_late(self, client: Client, head: RequestHead, body: bytes) -> Response | PendingResponse:
        """Route a request whose body is complete, and serve it. Raises `HttpError`."""
        head.route.keep(None)
        return self.application.route(client, head)(client, head, body)

    def renew(self, tls: ssl.SSLContext) -> None:
        """Use another context for new connections; open ones and handshakes in progress keep theirs."""
        assert self._tls is not None, "the server was started with TLS"
        self._tls = tls

    @property
    def tls(self) -> ssl.SSLContext:
        """The context for new connections. Only for a server with TLS."""
        assert self._tls is not None
        return self._tls

    def stop_accepting(self) -> None:
        """Accept no new connections; open ones are still served."""
        for listener in self._listeners:
            listener.close()

    async def drain(self, grace: float) -> None:
        """Close each connection after its current response, and abort the remaining ones after `grace` seconds."""
        self.stop_accepting()
        self.draining = True
        for connection in list(self._open):
            if connection.pending is None:
                connection.close()
        if self._open:
            self._emptied.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._emptied.wait()
            except TimeoutError:
                pass
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop calls `connection_lost` meanwhile

    def poll(self) -> None:
        """Update the `Date` of responses and end stalled connections; call about once a second."""
        self.heads.refresh()
        now = time.monotonic()
        for connection in list(self._open):
            connection.poll(now)

    @property
    def admitted(self) -> int:
        """Connections that count against the limit."""
        return len(self._admitted)

    def opened(self, connection: ServerConnection | Handshake) -> bool:
        """Register a new connection; False if there are too many even to refuse it with a response."""
        self._open.add(connection)
        return self._sockets.admit(connection)

    def admit(self, connection: ServerConnection) -> bool:
        """Count a connection against the limit; False if the limit is reached and no idle connection gives way.

        A connection counts from its first request that needs admission: one that says nothing holds no place. Above the
        limit, a connection still gets responses that need no admission, and is admitted once there is room.
        """
        return self._admitted.admit(connection)

    def pause_for(self, owner: str, size: int) -> float:
        """Count bytes of an incomplete body, or of dropped input; returns the seconds until more should be read."""
        pace = self._paces.get(owner)
        if pace is None:
            pace = self._paces[owner] = Pace(BODY_RATE, BODY_BURST)
            if len(self._paces) > MAX_PACES:
                del self._paces[next(iter(self._paces))]
        return pace.pause(size)

    def handshake_delay(self, network: str) -> float:
        """Count a handshake; returns the seconds that it must wait."""
        return self._handshakes.delay(network)

    def handshake_failed(self, network: str, address: str, error: BaseException) -> None:
        """Log why a client could not connect."""
        self._failed_handshakes.log(network, address, error)

    def closed(self, connection: ServerConnection | Handshake) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._admitted.leave(connection)
        self._sockets.leave(connection)
        if not self._open:
            self._emptied.set()


def _sockets(max_connections: int) -> int:
    """How many connections may be open, with those that only get refusals and probes."""
    return max_connections + max(max_connections * 3, SPARE)
