"""HTTP client of one configured upstream: connection pool, credentials, and the classification of failures.

`HttpClient` lives as long as the upstream is configured; `HttpConnection` and `SseConnection` are sessions on top of
it. Failures before the first byte is written are `NotSent`, later ones are `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, hdrs
from multidict import CIMultiDict
from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown
from gateway_core.http1.client_connection import WireConnection
from gateway_core.http1.client_head import Closed, HeadCache, Malformed
from gateway_core.http1.client_response import ClientResponse
from gateway_core.http1.dial import dial
from gateway_core.inline.driver import in_task
from gateway_core.mcp.names import IMPLEMENTATION
from gateway_core.upstream.auth import ATTEMPTS, Challenge, TokenSource

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for name look-up, TCP and TLS together."""
KEEPALIVE: Final = 4.0
"""Seconds that an idle connection is kept: less than the 5 s of uvicorn and Node.js. The outcome of a request that is
sent while the server closes the connection is unknown (rule R10)."""
MAX_ADDRESSES: Final = 64
"""Maximum number of IP addresses of one upstream that are remembered."""
_UNSENDABLE: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class HttpClient:
    """The connections to the host of one upstream, and the headers common to all requests.

    It follows no redirects, keeps no cookies, reads no proxy settings or credentials from the environment, and
    asks for uncompressed responses, so that a limit on bytes read is a limit on memory. The number of connections is
    not limited here: the upstream's concurrency limit bounds requests, and notification streams must not count
    against that limit.
    """

    def __init__(self, config: UpstreamConfig, limits: LimitsConfig, held: HeldSecrets | None = None) -> None:
        """`held` learns the access tokens."""
        assert config.url is not None, "checked by the configuration"
        self.url: Final = URL(config.url)
        self.limits: Final = limits
        self._path = self.url.raw_path_qs.encode()
        self._headers = dict(config.headers)
        self._addresses: set[str] = set()
        """IP addresses that the client connected to."""
        self._tokens = (
            TokenSource(
                config.name, self.url, config.auth, lambda: self.session, self._addresses, held=held or HeldSecrets()
            )
            if config.auth is not None
            else None
        )
        self._session: ClientSession | None = None
        self._closed = False
        self._context: ssl.SSLContext | None = None
        self._heads = HeadCache()
        self._idle: deque[WireConnection] = deque()
        """Idle connections, the most recently used one last."""
        self._open: set[WireConnection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def session(self) -> ClientSession:
        """The aiohttp session for authorization servers; created on first use, inside the event loop.

        Raises `NotSent` once closed.
        """
        self._check_open()
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=0, keepalive_timeout=KEEPALIVE),
                cookie_jar=DummyCookieJar(),
                headers={
                    hdrs.USER_AGENT: f"{IMPLEMENTATION['name']}/{IMPLEMENTATION['version']}",
                    hdrs.ACCEPT_ENCODING: "identity",
                },
                timeout=ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
                auto_decompress=False,
                trust_env=False,
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
        last: bool = False,
    ) -> ClientResponse:
        """Send a request and wait for the head of the response; the caller reads and closes it.

        The configured headers and the access token are added to `headers`. `url` must have the same origin. After a
        401, or a 403 for missing scopes, the request is sent again with another token if there is one, at most
        `ATTEMPTS` times. `before_send` is called just before the first byte may leave. Raises `NotSent` for earlier
        failures, `OutcomeUnknown` for later ones. `last`: close the connection after this request.
        """
        if last:
            headers = {**headers, hdrs.CONNECTION: "close"}
        if self._tokens is None:
            return await self._send(verb, headers, body, url or self.url, before_send, last=last)
        await in_task()
        attempts = 0
        while True:
            authorization = await self._tokens.authorization()
            if authorization is not None:
                headers = {**headers, hdrs.AUTHORIZATION: authorization}
            response = await self._send(verb, headers, body, url or self.url, before_send, last=last)
            if attempts == ATTEMPTS or not await _worth_another(self._tokens, authorization, response):
                return response
            response.close()
            attempts += 1

    async def _send(
        self,
        verb: str,
        headers: Mapping[str, str],
        body: bytes | None,
        url: URL,
        before_send: Callable[[], None] | None,
        *,
        last: bool,
    ) -> ClientResponse:
        head = self._head(verb, headers, url, None if body is None else len(body))
        return await self.send(head, body or b"", before_send, last=last)

    async def send(
        self, head: bytes, body: bytes, before_send: Callable[[], None] | None = None, *, last: bool = False
    ) -> ClientResponse:
        """Send a request with an encoded head, without adding credentials, and wait for the head of the response.

        Raises `NotSent` and `OutcomeUnknown`. Cancellation closes the connection.
        """
        connection = self._take()
        if connection is None:
            await in_task()
            connection = await self._connected()
        connection.last = last
        if before_send is not None:
            before_send()
        answer = connection.ask(head, body)
        try:
            response = await answer
        except OSError as error:
            raise OutcomeUnknown(self._explain(error)) from None
        except asyncio.CancelledError:
            connection.give_up(answer)
            raise
        if response.head.encoded:
            response.close()
            raise OutcomeUnknown("it answered in compressed form, which was not asked for")
        return response

    def prepared(self, headers: Mapping[str, str]) -> bytes | None:
        """The encoded head of a POST with these headers, up to and without the value of Content-Length.

        None with access tokens, since the head then differs per request. Raises `NotSent` for an invalid header.
        """
        if self._tokens is not None:
            return None
        return self._start("POST", headers, self.url) + b"Content-Length: "

    # -- requests as bytes --------------------------------------------------------------------------------------

    def _head(self, verb: str, headers: Mapping[str, str], url: URL, size: int | None) -> bytes:
        """The encoded head of a request. Raises `NotSent` for an invalid header."""
        start = self._start(verb, headers, url)
        return start + b"\r\n" if size is None else b"%bContent-Length: %d\r\n\r\n" % (start, size)

    def _start(self, verb: str, headers: Mapping[str, str], url: URL) -> bytes:
        """The request line and headers, without Content-Length and the final empty line."""
        path = self._path if url is self.url else url.raw_path_qs.encode()
        return b"%b %b HTTP/1.1\r\n%b" % (verb.encode(), path, self._block(headers))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        """All header lines but Content-Length. `headers` replace configured headers of the same name."""
        complete: CIMultiDict[str] = CIMultiDict(
            {
                hdrs.HOST: self.url.host_port_subcomponent or "",
                hdrs.USER_AGENT: f"{IMPLEMENTATION['name']}/{IMPLEMENTATION['version']}",
                hdrs.ACCEPT_ENCODING: "identity",
            }
        )
        if self.url.user is not None:
            secret = f"{self.url.user}:{self.url.password or ''}".encode("latin-1", "replace")
            complete[hdrs.AUTHORIZATION] = f"Basic {b64encode(secret).decode()}"
        complete.update(self._headers)
        complete.update(headers)
        for name, value in complete.items():
            if _TOKEN.fullmatch(name) is None or _UNSENDABLE.search(value) is not None:
                raise NotSent(f"the header {name[:100]!r} has characters that no header may have")
        return "".join(f"{name}: {value}\r\n" for name, value in complete.items()).encode("latin-1")

    # -- connections --------------------------------------------------------------------------------------------

    def _take(self) -> WireConnection | None:
        """The most recently used idle connection that is still usable, or None (rule R10)."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connected(self) -> WireConnection:
        """Open a connection. Raises `NotSent`."""
        self._check_open()
        host, port = self.url.host, self.url.port
        assert host is not None, "checked by the configuration"
        assert port is not None, "checked by the configuration"
        if self._context is None and self.url.scheme == "https":
            self._context = ssl.create_default_context()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await dial(self._made, host, port, self._context)
        except (OSError, RuntimeError, ValueError) as error:
            raise NotSent(self._explain(error)) from None
        self._check_open()
        if len(self._addresses) < MAX_ADDRESSES:
            self._addresses.add(connection.peer)
        return connection

    def _check_open(self) -> None:
        if self._closed:
            for connection in list(self._open):  # one may have opened during the close
                connection.close()
            raise NotSent("the connection to this upstream is being closed")

    def _made(self) -> WireConnection:
        connection = WireConnection(self._heads, self._freed, self._lost, self.limits.response_body)
        self._open.add(connection)
        return connection

    def _freed(self, connection: WireConnection) -> None:
        connection.unused_since = time.monotonic()
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

    def _explain(self, error: BaseException) -> str:
        """A message that describes the error, without the URL's query, headers or body."""
        where = f"{self.url.host}:{self.url.port}"
        match error:
            case TimeoutError():
                what = f"no connection to {where} within {CONNECT_TIMEOUT:g} s"
            case ssl.SSLCertVerificationError():
                what = f"the certificate of {where} is not trusted"
            case socket.gaierror():
                what = f"the name {self.url.host} cannot be resolved"
            case Closed():
                what = f"{where} closed the connection without an answer"
            case Malformed():
                what = f"the exchange with {where} failed: {error}"
            case ConnectionResetError():
                what = f"the connection to {where} was reset"
            case ssl.SSLError():
                what = f"no TLS connection to {where}: {error.reason or type(error).__name__}"
            case OSError(strerror=str(reason)):
                what = f"cannot connect to {where}: {reason}"
            case _:
                what = f"the exchange with {where} failed: {type(error).__name__}"
        return what

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self._open):
            connection.close()
        self._idle.clear()
        if self._tokens is not None:
            await self._tokens.close()
        if self._session is not None:
            await self._session.close()


async def _worth_another(tokens: TokenSource, authorization: str | None, response: ClientResponse) -> bool:
    """Whether to send the request again with another token after this response. Raises `NotSent`."""
    if response.status not in {401, 403}:
        return False
    challenge = Challenge.of(response.headers.getall(hdrs.WWW_AUTHENTICATE, ()))
    try:
        return await tokens.challenged(authorization, response.status, challenge)
    except BaseException:
        response.close()
        raise
