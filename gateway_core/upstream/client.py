"""The HTTP side of one configured upstream: its pool of connections, its credentials, and how a request failed.

`HttpClient` lives as long as the upstream is configured; `HttpConnection` and `SseConnection` are sessions on top of
it. Its `open` draws the line between `NotSent` and `OutcomeUnknown`: the moment before the first byte is written.
"""

from __future__ import annotations

import asyncio
import io
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final
from weakref import WeakSet

from aiohttp import (
    AddrInfoType,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerDisconnectedError,
    TCPConnector,
    TraceConfig,
    TraceRequestHeadersSentParams,
    hdrs,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection as PooledConnection
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.protocol import IMPLEMENTATION
from gateway_core.upstream.auth import ATTEMPTS, Challenge, TokenSource

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for name look-up, TCP and TLS together."""
KEEPALIVE: Final = 15.0
"""Seconds that an idle connection is kept; short, so that few are closed by the server first (rule R10)."""
MAX_ADDRESSES: Final = 64
"""Addresses of one upstream that are remembered."""
_BIG_BODY: Final = 512 * 1024
"""Bytes from which a body is written in pieces, so that writing it does not hold up other requests."""


class _Connector(TCPConnector):
    """A pool that does not hand out idle connections whose end has arrived but was not noticed yet (rule R10)."""

    def __init__(self, on_connected: Callable[[URL, asyncio.Transport | None], None], **kwargs: Any) -> None:
        """`on_connected` is called with the URL of each request, and what carries it."""
        super().__init__(**kwargs)
        self._on_connected = on_connected
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> PooledConnection:
        while True:
            connection = await super().connect(req, traces, timeout)
            self._on_connected(req.url, connection.transport)
            protocol = connection.protocol
            # A new TLS connection may well have something to read: session tickets.
            if protocol is None or protocol not in self._used:
                if protocol is not None:
                    self._used.add(protocol)
                return connection
            if not _has_input(connection.transport):
                return connection
            connection.close()


def _socket(address: AddrInfoType) -> socket.socket:
    """A socket that notices within a minute that the other machine is gone, even when nothing is being sent."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)  # not on every system
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, seconds)
    return made


def _has_input(transport: asyncio.Transport | None) -> bool:
    """Whether something waits to be read on an idle connection: its end, or bytes nobody asked for."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class HttpClient:
    """One long-lived HTTP session with the host of one upstream.

    It follows no redirects, keeps no cookies, reads no proxy settings or credentials from the environment, and
    asks for uncompressed answers, so that a limit on bytes read is a limit on memory.
    """

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig) -> None:
        assert config.url is not None, "checked by the configuration"
        self.url: Final = URL(config.url)
        self.limits: Final = limits
        self._headers = dict(config.headers)
        self._addresses: set[str] = set()
        """Where it was reached: IP addresses."""
        self._tokens = (
            TokenSource(config.name, self.url, config.auth, lambda: self.session, self._addresses)
            if config.auth is not None
            else None
        )
        self._session: ClientSession | None = None
        self._closed = False

    @property
    def session(self) -> ClientSession:
        """The aiohttp session; made on first use, inside the event loop. Raises `NotSent` once closed.

        The pool has no limit of its own: requests are bounded by the upstream's places in flight, and streams
        that stay open for notifications must not take those places away.
        """
        if self._closed:
            raise NotSent("the connection to this upstream is being closed")
        if self._session is None:
            trace = TraceConfig(trace_config_ctx_factory=SimpleNamespace)
            trace.on_request_headers_sent.append(_before_send)
            self._session = ClientSession(
                connector=_Connector(
                    self._connected,
                    limit=0,
                    keepalive_timeout=KEEPALIVE,
                    socket_factory=_socket,
                    ssl=ssl.create_default_context() if self.url.scheme == "https" else True,
                ),
                cookie_jar=DummyCookieJar(),
                headers={
                    hdrs.USER_AGENT: f"{IMPLEMENTATION['name']}/{IMPLEMENTATION['version']}",
                    hdrs.ACCEPT_ENCODING: "identity",
                },
                timeout=ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
                auto_decompress=False,
                trust_env=False,
                trace_configs=[trace],
            )
        return self._session

    async def open(
        self,
        verb: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        url: URL | None = None,
        before_send: Callable[[], None] | None = None,
    ) -> ClientResponse:
        """Send a request and wait for the head of the answer; the caller reads and closes it.

        The configured headers and the access token are added to `headers`. After a 401, or a 403 for want of
        scopes, the request is sent again if there is another token, with at most `ATTEMPTS` of them. `before_send` is
        called just before the first byte may leave; what fails earlier is `NotSent`, what fails later
        `OutcomeUnknown`.
        """
        complete = CIMultiDict(self._headers)
        complete.update(headers)
        if self._tokens is None:
            return await self._send(verb, complete, body, url, before_send)
        attempts = 0
        while True:
            authorization = await self._tokens.authorization()
            if authorization is not None:
                complete[hdrs.AUTHORIZATION] = authorization
            response = await self._send(verb, complete, body, url, before_send)
            if attempts == ATTEMPTS or not await _worth_another(self._tokens, authorization, response):
                return response
            response.close()
            attempts += 1

    async def _send(
        self,
        verb: str,
        headers: Mapping[str, str],
        body: bytes | None,
        url: URL | None,
        before_send: Callable[[], None] | None,
    ) -> ClientResponse:
        sent = False

        def mark() -> None:
            nonlocal sent
            sent = True
            if before_send is not None:
                before_send()

        data = io.BytesIO(body) if body is not None and len(body) >= _BIG_BODY else body
        try:
            response = await self.session.request(
                verb, url or self.url, data=data, headers=headers, allow_redirects=False, trace_request_ctx=mark
            )
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            reason = self._explain(error)
            raise (OutcomeUnknown(reason) if sent else NotSent(reason)) from None
        if response.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() not in {"", "identity"}:
            response.close()
            raise OutcomeUnknown("it answered in compressed form, which was not asked for")
        return response

    def _connected(self, url: URL, transport: asyncio.Transport | None) -> None:
        """Note where the upstream is. The session serves a token endpoint that the operator named, too."""
        peer = transport.get_extra_info("peername") if transport is not None else None
        if peer and url.origin() == self.url.origin() and len(self._addresses) < MAX_ADDRESSES:
            self._addresses.add(str(peer[0]))

    def _explain(self, error: BaseException) -> str:
        """What happened, for people; never with a URL's query, a header or a body in it."""
        where = f"{self.url.host}:{self.url.port}"
        match error:
            case ConnectionTimeoutError():
                what = f"no connection to {where} within {CONNECT_TIMEOUT:g} s"
            case ClientConnectorCertificateError():
                what = f"the certificate of {where} is not trusted"
            case ClientConnectorDNSError():
                what = f"the name {self.url.host} cannot be resolved"
            case ClientConnectorError():
                what = f"cannot connect to {where}: {error.os_error.strerror or type(error.os_error).__name__}"
            case ServerDisconnectedError():
                what = f"{where} closed the connection without an answer"
            case ConnectionResetError():
                what = f"the connection to {where} was reset"
            case _:
                what = f"the exchange with {where} failed: {type(error).__name__}"
        return what

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._closed = True
        if self._tokens is not None:
            await self._tokens.close()
        if self._session is not None:
            await self._session.close()


async def _worth_another(tokens: TokenSource, authorization: str | None, response: ClientResponse) -> bool:
    """Whether what was answered so should be sent again, with another token. Raises `NotSent`."""
    if response.status not in {401, 403}:
        return False
    challenge = Challenge.of(response.headers.getall(hdrs.WWW_AUTHENTICATE, ()))
    try:
        return await tokens.challenged(authorization, response.status, challenge)
    except BaseException:
        response.close()
        raise


async def _before_send(session: ClientSession, context: SimpleNamespace, params: TraceRequestHeadersSentParams) -> None:
    """aiohttp calls this when a connection is in hand and before anything is written to it."""
    mark: Callable[[], None] | None = context.trace_request_ctx
    if mark is not None:
        mark()
