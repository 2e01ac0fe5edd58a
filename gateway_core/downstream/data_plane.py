"""The data plane: the listener for agents, its housekeeping, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway_core.catalog.current import CurrentCatalog
from gateway_core.config import ProxyConfig
from gateway_core.config.server_tls import ServerCertificate
from gateway_core.downstream.app import App
from gateway_core.downstream.auth.pending import PendingAuthentication
from gateway_core.downstream.calls.gate import Gate
from gateway_core.downstream.pending_response import PendingStream
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.downstream.subscriptions.subscription import Subscriptions
from gateway_core.http1.server import HttpServer
from gateway_core.limits.slices import in_turns
from gateway_core.mcp.names import IMPLEMENTATION
from gateway_core.supervised import cancel_all, poll, run_all

MOVE_GRACE: Final = 1.0
"""Seconds for requests that are being received, and for streams that end, before their connections are moved."""
HOUSEKEEPING_INTERVAL: Final = 1.0
"""Seconds between two polls for stalled connections, unused sessions and renewed certificates."""


class Moved(msgspec.Struct, frozen=True):
    """What the next process can continue."""

    listening: list[int]
    """Descriptors of the listening sockets."""
    connections: list[tuple[int, bytes]]
    """See `HttpServer.hand_over`."""


class DataPlane:
    """The listening HTTP server, its housekeeping, and its graceful shutdown."""

    def __init__(
        self,
        app: App,
        config: ProxyConfig,
        *,
        catalog: CurrentCatalog,
        gate: Gate,
        sessions: Sessions,
        subscriptions: Subscriptions,
    ) -> None:
        self._catalog = catalog
        self._gate = gate
        self._sessions = sessions
        self._subscriptions = subscriptions
        self.http = HttpServer(
            app,
            name=IMPLEMENTATION["name"],
            max_body=config.limits.request_body,
            max_connections=config.max_connections,
        )
        self._tls = config.tls
        self._certificate: ServerCertificate | None = None
        self._housekeeping: list[asyncio.Task[None]] = []
        self._forget_changes: Callable[[], None] = lambda: None
        self._listening: list[int] = []
        """Descriptors of the listening sockets, for the next process."""
        self.moved: Moved | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on, once started."""
        return self.http.port

    @property
    def connections(self) -> int:
        """The number of agents' TCP connections, without those above the limit."""
        return self.http.admitted

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The names and the end (seconds since the epoch) of the certificate that agents see; None without TLS."""
        return None if self._certificate is None else self._certificate.status()

    async def start(self, host: str, port: int, sockets: Sequence[socket.socket] = ()) -> None:
        """Listen; port 0 picks a free port. Raises `OSError` if the address cannot be used, and `ConfigError`.

        `sockets`: see `HttpServer.start`.
        """
        if self._tls is not None:
            self._certificate = ServerCertificate(self._tls)
        tls = None if self._certificate is None else self._certificate.context
        await self.http.start(host, port, tls=tls, sockets=sockets)
        self._forget_changes = self._catalog.listen(self._sessions.changed)
        steps = (self.http.poll, lambda: in_turns(self._sessions.end_expired()), self._renew_certificate)
        keep_house = poll("keeping house", HOUSEKEEPING_INTERVAL, *steps)
        self._housekeeping.append(asyncio.create_task(keep_house, name="keep house"))

    def use(self, config: ProxyConfig, certificate: ServerCertificate | None, *, doubts: bool) -> None:
        """Apply another configuration; the application has taken it over already.

        `certificate`: another one for agents; None to keep the present one. `doubts`: whether credentials are judged
        differently now, so that open streams have to be looked at again.
        """
        self.http.limit_to(config.limits.request_body, config.max_connections)
        if certificate is not None:
            self._tls, self._certificate = config.tls, certificate
            self.http.renew(certificate.context)
        self.http.reroute()
        if doubts:
            for pending in self.http.pending():
                stream = pending.found if isinstance(pending, PendingAuthentication) else pending
                if isinstance(stream, PendingStream):
                    stream.doubt()

    async def adopt(self, connections: Sequence[tuple[int, bytes]]) -> None:
        """Continue connections of an earlier process; see `HttpServer.adopt`."""
        for descriptor, received in connections:
            with contextlib.suppress(OSError):  # its client has left
                await self.http.adopt(descriptor, received)

    def stop_accepting(self) -> None:
        """Accept no new connections, sessions, streams and requests; work in flight continues.

        Requests that help it finish are still accepted: lists, and later rounds of calls (`calls.gate._finishes`).
        """
        if self._gate.deferring and not self._listening:
            self._listening = self.http.duplicates()
        self._gate.close(defer=self._gate.deferring)
        self.http.stop_accepting()

    async def close(self, grace: float) -> None:
        """Wait up to `grace` seconds for requests in flight, end all streams, then close the connections.

        If requests were deferred, `moved` has the connections that the next process can continue.
        """
        await run_all(
            "closing the listener for agents",
            self.stop_accepting,
            lambda: self._gate.wait_empty(grace),
            self._forget_changes,
            self._subscriptions.end_all,
            self._sessions.end_all,
            self._move,
            lambda: self.http.drain(1.0),
            lambda: self._sessions.close(1.0),
            lambda: cancel_all(self._housekeeping),
        )

    async def _move(self) -> None:
        if self._gate.deferring:
            self.moved = Moved(self._listening, await self.http.hand_over(MOVE_GRACE))

    def _renew_certificate(self) -> None:
        if self._certificate is not None and self._certificate.poll():
            self.http.renew(self._certificate.context)
