"""The HTTP server: its listening socket, bounded connections, polled timeouts, and draining."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

from gateway_core.http1.application import Application, Client, PendingResponse
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
MAX_PACES: Final = 1024
"""Owners whose pace is remembered."""


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
        self._listener: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        self._handshakes = HandshakePace()
        self._failed_handshakes = FailedHandshakes()

    async def start(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        """Listen; port 0 chooses a free one. `tls`: the context of a server that speaks TLS; None for plain TCP.

        Raises `OSError` if the address cannot be used.
        """
        self._tls = tls
        self._listener = await asyncio.get_running_loop().create_server(
            lambda: ServerConnection(self) if self._tls is None else Handshake(self),
            host,
            port,
            reuse_address=True,
            backlog=1024,
        )
        self.port = self._listener.sockets[0].getsockname()[1]

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
        if self._listener is not None:
            self._listener.close()

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
