"""The connections to the host of one upstream: opening, keeping, reuse, and what their failures mean."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from typing import Final

from yarl import URL

from gateway_core.errors import DeliveryError, NotSent, OutcomeUnknown, Permanent
from gateway_core.http1.client.connection import WireConnection
from gateway_core.http1.client.dial import HttpProxy, ProxyFailed, dial
from gateway_core.http1.client.head import Closed, HeadCache, Malformed, Unused
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.upstream.network.access import Access
from gateway_core.upstream.network.trust import is_refused_client, why_failed, why_untrusted

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for name look-up, TCP, the tunnel of a proxy and TLS together."""
KEEPALIVE: Final = 4.0
"""Seconds that an idle connection is kept: less than the 5 s of uvicorn and Node.js. The outcome of a request that is
sent while the server closes the connection is unknown (rule R10)."""
MAX_ADDRESSES: Final = 64
"""Maximum number of IP addresses of one upstream that are remembered."""


class HostConnections:
    """The open and idle connections to one host.

    Their number is not limited here: the upstream's concurrency limit bounds requests, and notification streams must
    not count against that limit.
    """

    def __init__(self, url: URL, access: Access, limit: int, account: Account = UNCOUNTED) -> None:
        """`limit`: largest JSON body of known length, in bytes, that is collected before it is passed on.

        `account` counts these bodies.
        """
        self._account = account
        self._url = url
        self._access = access
        self._proxy: HttpProxy | None = None
        self._unusable: ProxyFailed | None = None
        try:
            self._proxy = access.proxies.of(url)
        except ProxyFailed as error:
            self._unusable = error
        self.forwarding: Final = self._proxy if url.scheme == "http" else None
        """The proxy that forwards plain HTTP requests, which then name the whole URL; None without one."""
        self._limit = limit
        self._heads = HeadCache()
        self._idle: deque[WireConnection] = deque()
        """Idle connections, the most recently used one last."""
        self._open: set[WireConnection] = set()
        self._closed = False
        self._sweeper: asyncio.TimerHandle | None = None

    def take(self) -> WireConnection | None:
        """The most recently used idle connection that is still usable, or None (rule R10)."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def connected(self) -> WireConnection:
        """Open a connection that can take a request. Raises `NotSent`.

        A balancer whose servers are down may accept a connection and close it. On TLS, only the end of the connection
        counts: the server's session tickets may have arrived.
        """
        self._check_open()
        host, port = self._url.raw_host, self._url.port
        assert host is not None, "checked by the configuration"
        assert port is not None, "checked by the configuration"
        if self._unusable is not None:
            raise self.not_sent(self._unusable)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                context = await self._access.trust.context() if self._url.scheme == "https" else None
                connection = await dial(self._made, host, port, context, self._proxy)
        except (OSError, RuntimeError, ValueError) as error:
            raise self.not_sent(error) from None
        self._check_open()
        if context is None and not connection.is_usable():
            connection.close()
            raise self.not_sent(connection.failure)
        if self._proxy is None and len(self._access.addresses) < MAX_ADDRESSES:
            self._access.addresses.add(connection.peer)
        return connection

    def _check_open(self) -> None:
        """Raise `NotSent` once `close` was called."""
        if self._closed:
            for connection in list(self._open):  # one may have opened during the close
                connection.close()
            raise NotSent("the connection to this upstream is being closed")

    def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._open):
            connection.close()
        self._idle.clear()

    def _made(self) -> WireConnection:
        connection = WireConnection(self._heads, self._freed, self._lost, self._limit, self._account)
        self._open.add(connection)
        return connection

    def _freed(self, connection: WireConnection) -> None:
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(KEEPALIVE, self._sweep)

    def _lost(self, connection: WireConnection) -> None:
        self._open.discard(connection)

    def _sweep(self) -> None:
        """Close connections that were idle for `KEEPALIVE` seconds."""
        self._sweeper, now = None, time.monotonic()
        while self._idle and now - self._idle[0].unused_since >= KEEPALIVE:
            self._idle.popleft().close()
        if self._idle:
            left = self._idle[0].unused_since + KEEPALIVE - now
            self._sweeper = asyncio.get_running_loop().call_later(left + 0.01, self._sweep)

    # -- failures -----------------------------------------------------------------------------------------------

    def not_sent(self, error: BaseException) -> NotSent:
        """The error for a failure before a request was sent."""
        untrusted = isinstance(error, ssl.SSLCertVerificationError) or is_refused_client(error)
        lasting = untrusted or (isinstance(error, ProxyFailed) and error.lasting)
        return (Permanent if lasting else NotSent)(self._explain(error))

    def broken(self, error: OSError) -> DeliveryError:
        """The error for a connection that failed after a request was written to it."""
        if is_refused_client(error):  # in TLS 1.3, a client may write before the server has read its certificate
            return Permanent(self._explain(error))
        return OutcomeUnknown(self._explain(error))

    def _explain(self, error: BaseException) -> str:
        """A message that describes the error, without the URL's query, headers or body."""
        where = f"{self._url.host}:{self._url.port}"
        match error:
            case ProxyFailed():
                what = str(error)
            case TimeoutError():
                through = "" if self._proxy is None else f" through the proxy {self._proxy}"
                what = f"no connection to {where}{through} within {CONNECT_TIMEOUT:g} s"
            case ssl.SSLCertVerificationError():
                why = why_untrusted(error, self._url.host or "")
                what = f"the certificate of {where} is not trusted: {why}"
            case socket.gaierror():
                what = f"the name {self._url.host} cannot be resolved"
            case Unused():
                peer = where if self.forwarding is None else f"the proxy {self.forwarding}"
                what = f"{peer} closed the connection before the request was sent"
            case Closed():
                what = f"{where} closed the connection without an answer"
            case Malformed():
                what = f"the exchange with {where} failed: {error}"
            case ConnectionResetError():
                what = f"the connection to {where} was reset"
            case ssl.SSLError():
                what = f"no TLS connection to {where}: {why_failed(error)}"
            case OSError(strerror=str(reason)):
                what = f"cannot connect to {where}: {reason}"
            case _:
                what = f"the exchange with {where} failed: {type(error).__name__}"
        return what
