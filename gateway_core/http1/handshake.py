"""TLS on accepted connections: the handshake, its limits, and the connection that follows.

An event loop that accepts TLS reports a connection only after its handshake. Until then nothing could count it. So the
server accepts TCP, counts the connection, and then returns the socket to the loop for TLS.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from typing import Any, Final, Protocol

from loguru import logger

from gateway_core.http1 import connection as connections
from gateway_core.http1.address import canonical_address
from gateway_core.http1.application import ServerContext
from gateway_core.http1.certificate import ClientCertificate, read_certificate
from gateway_core.http1.connection import ServerConnection
from gateway_core.limits.shares import network_of
from gateway_core.log.sparing import Sparing

RATE: Final = 200.0
BURST: Final = 200.0
"""Handshakes per second, and at once, of one network; later ones wait. A handshake takes about a millisecond of CPU."""
MAX_PACES: Final = 1024
"""Networks whose handshakes are counted."""

_REASONS: Final = {
    "HTTP_REQUEST": "it sent HTTP without TLS; its URL must begin with https://",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has no client certificate, and client_certificate is required",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are no longer secure",
    "VERSION_TOO_LOW": "it speaks only versions of TLS that are no longer secure",
    "NO_SHARED_CIPHER": "it offers no cipher that the gateway accepts",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the certificate of the gateway",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the certificate of the gateway",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the certificate of the gateway",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the certificate of the gateway has expired",
    "WRONG_VERSION_NUMBER": "it did not send TLS",
}
"""Why a handshake failed, by OpenSSL's reasons."""


class TlsContext(ServerContext, Protocol):
    """The part of `server.HttpServer` that a handshake uses."""

    @property
    def tls(self) -> ssl.SSLContext:
        """The context for new connections."""

    def handshake_delay(self, network: str) -> float:
        """Count a handshake; returns the seconds that it must wait."""

    def handshake_failed(self, network: str, address: str, error: BaseException) -> None:
        """Log why a client could not connect."""


class Handshake(asyncio.Protocol):
    """A connection whose TLS handshake is not complete. A `TlsConnection` takes its place and its socket."""

    pending: None = None
    """The response to a request; there is none yet."""

    def __init__(self, server: TlsContext) -> None:
        self._server = server
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._since = time.monotonic()
        self.address = self.network = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = canonical_address(str(peer[0]) if peer else "")
        self.network = network_of(self.address)
        wire: Any = transport
        try:
            self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:  # no descriptor is left
            wire.abort()
            return
        wire.abort()  # closes the first descriptor without reading from it; the duplicate stays connected
        self._socket.setblocking(False)
        self._task = asyncio.get_running_loop().create_task(self._establish(self._socket), name="TLS handshake")
        self._task.add_done_callback(self._ended)
        if not self._server.opened(self):
            self.abort()

    async def _establish(self, accepted: socket.socket) -> None:
        delay = self._server.handshake_delay(self.network)
        if delay > connections.HEAD_TIMEOUT:
            return
        if delay:
            await asyncio.sleep(delay)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: TlsConnection(self._server, self),
                accepted,
                ssl=self._server.tls,
                ssl_handshake_timeout=connections.HEAD_TIMEOUT,
            )
        except OSError as error:
            self._server.handshake_failed(self.network, self.address, error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._server.closed(self)
        if self._socket is not None:
            self._socket.close()  # without effect, unless the handshake did not begin
        if not task.cancelled() and (error := task.exception()) is not None:
            self._server.application.failed(error)

    def established(self) -> None:
        """Free the place, which the connection takes now."""
        self._socket = None
        self._server.closed(self)

    @property
    def idle_since(self) -> float:
        """When the client connected, on the monotonic clock."""
        return self._since

    def poll(self, now: float) -> None:
        """Nothing: the event loop ends a handshake that takes too long."""

    def give_way(self) -> None:
        """Close, because another connection needs the place."""
        self.abort()

    def close(self) -> None:
        """Close."""
        self.abort()

    def abort(self) -> None:
        """Close."""
        self._server.closed(self)
        if self._task is not None:
            self._task.cancel()


class TlsConnection(ServerConnection):
    """One connection over TLS."""

    __slots__ = ("_certificate", "_handshake", "_tls")

    secure = True

    def __init__(self, server: ServerContext, handshake: Handshake) -> None:
        super().__init__(server)
        self._handshake: Handshake | None = handshake
        self._tls: ssl.SSLObject | None = None
        """The connection's state of TLS, until the certificate was read from it."""
        self._certificate: ClientCertificate | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        handshake, self._handshake = self._handshake, None
        assert handshake is not None, "called once"
        handshake.established()
        self._tls = transport.get_extra_info("ssl_object")
        super().connection_made(transport)

    @property
    def certificate(self) -> ClientCertificate | None:
        """The client's certificate, which the handshake has verified; None without one."""
        if self._tls is not None:
            tls, self._tls = self._tls, None
            der = tls.getpeercert(binary_form=True)
            if der:
                self._certificate = _readable(der)
        return self._certificate


def _readable(der: bytes) -> ClientCertificate | None:
    try:
        return read_certificate(der)
    except ValueError as error:
        logger.warning("a client certificate cannot be read and does not count: {}", error)
        return None


class HandshakePace:
    """How fast the handshakes of each network may begin (GCRA)."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        """Network -> theoretical arrival time of its next handshake, on the monotonic clock."""

    def delay(self, network: str) -> float:
        """Count a handshake; returns the seconds that it must wait."""
        now = time.monotonic()
        due = max(self._due.pop(network, now), now)
        self._due[network] = due + 1 / RATE
        if len(self._due) > MAX_PACES:
            del self._due[next(iter(self._due))]
        return max(0.0, due - now - BURST / RATE)


class FailedHandshakes:
    """Logs why clients could not connect, once a minute per network."""

    def __init__(self) -> None:
        self._sparing = Sparing()

    def log(self, network: str, address: str, error: BaseException) -> None:
        """Log the failure, unless the client only closed the connection."""
        if isinstance(error, ssl.SSLError | ConnectionAbortedError) and self._sparing.due(network):
            logger.info("no TLS connection with {}: {}", address, why_failed(error))


def why_failed(error: BaseException) -> str:
    """Why the handshake with a client failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASONS.get(reason) or reason or type(error).__name__
    return f"it did not complete the handshake within {connections.HEAD_TIMEOUT:g} seconds"
