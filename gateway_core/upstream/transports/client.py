"""HTTP client of one configured upstream: credentials, redirects, and the line between "not sent" and "unknown".

`HttpClient` lives as long as the upstream is configured; `HttpConnection` and `SseConnection` are sessions on top of
it. Failures before the first byte is written are `NotSent`, later ones are `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from loguru import logger
from multidict import CIMultiDict
from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown, RefusedUpstream
from gateway_core.http1.client import field_names
from gateway_core.http1.client.dial import refused_by
from gateway_core.http1.client.response import ClientResponse
from gateway_core.http1.tokens import is_token
from gateway_core.inline.driver import in_task
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.mcp.names import USER_AGENT
from gateway_core.upstream.auth import Challenge, ClientCredentials, Logins, LoginTokens, TokenSource
from gateway_core.upstream.network.access import Access
from gateway_core.upstream.network.codings import UnknownCoding, decoded
from gateway_core.upstream.network.cookies import Cookies
from gateway_core.upstream.network.host import HostConnections
from gateway_core.upstream.network.redirects import MAX_REDIRECTS, REDIRECTS, destination, redirected

_UNSENDABLE: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """What the requests in the name of one identity have in place of the gateway's own."""

    headers: Mapping[str, str] = field(repr=False)
    """Headers beside those of the configuration."""
    access: Access
    tokens: TokenSource | None
    """Its access tokens, or those of the gateway itself."""
    owns_tokens: bool
    """Whether `tokens` are closed with the client."""


class HttpClient:
    """The connections to the host of one upstream, and the headers common to all requests.

    It asks for uncompressed responses. Cookies, content codings and redirects are looked for only if
    `ResponseHead.special` is set. It reads no credentials from the environment.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        limits: LimitsConfig,
        held: HeldSecrets | None = None,
        account: Account = UNCOUNTED,
        logins: Logins | None = None,
        *,
        behalf: OnBehalf | None = None,
    ) -> None:
        """`held` learns the access tokens. `account` counts large answers. `logins` has the operator's login at this
        upstream, if it needs one. `behalf`: the identity of all requests, if it is not the gateway's own."""
        assert config.url is not None, "checked by the configuration"
        self.url: Final = URL(config.url)
        self.limits: Final = limits
        self._headers = dict(config.headers)
        self._name = config.name
        self.access: Final = Access(config) if behalf is None else behalf.access
        self.connections: Final = HostConnections(self.url, self.access, limits.response_body, account)
        self.login: LoginTokens | None = None
        """The tokens of the operator's login, if the upstream needs one."""
        self.tokens: TokenSource | None = None
        """The access tokens of all requests; None without OAuth."""
        self._owns_tokens = behalf is None or behalf.owns_tokens
        if behalf is not None:
            self._headers |= behalf.headers
            self.tokens = behalf.tokens
        elif config.auth is not None and config.auth.grant == "authorization_code":
            self.tokens = self.login = LoginTokens(
                config.name, self.url, config.auth, self.access, logins=logins or Logins(held=held)
            )
        elif config.auth is not None and config.auth.grant == "client_credentials":
            self.tokens = ClientCredentials(config.name, self.url, config.auth, self.access, held=held or HeldSecrets())
        self._redirected = False
        """Whether a redirect was followed and logged."""
        if config.tls is not None and not config.tls.verify and behalf is None:
            logger.bind(upstream=config.name).warning(
                "the certificate of upstream {} is not verified (tls.verify = false): "
                "an attacker on the way can read and change what it sends",
                config.name,
            )

    async def open(
        self,
        verb: str,
        headers: Mapping[str, str],
        *,
        body: bytes | None = None,
        url: URL | None = None,
        before_send: Callable[[], None] | None = None,
        last: bool = False,
        cookies: Cookies | None = None,
    ) -> ClientResponse:
        """Send a request and wait for the head of the response; the caller reads and closes it.

        The configured headers and the access token are added to `headers`. `url` must have the same origin. After a
        401, or a 403 for missing scopes, the request is sent once more with another token if there is one.
        `before_send` is called just before the first byte may leave, and may raise `NotSent`. Raises `NotSent` for
        earlier failures, `OutcomeUnknown` for later ones. `last`: close the connection after this request. `cookies`:
        those of the session, which are sent and updated.
        """
        if last:
            headers = {**headers, field_names.CONNECTION: "close"}
        url = url or self.url
        if self.tokens is None:
            return await self._send(verb, headers, body, url, before_send, last=last, cookies=cookies)
        await in_task()
        repeated = False
        while True:
            authorization = await self.tokens.authorization()
            if authorization is not None:
                headers = {**headers, field_names.AUTHORIZATION: authorization}
            response = await self._send(verb, headers, body, url, before_send, last=last, cookies=cookies)
            if repeated or not await _worth_another(self.tokens, authorization, response):
                return response
            response.close()
            repeated = True

    async def _send(
        self,
        verb: str,
        headers: Mapping[str, str],
        body: bytes | None,
        url: URL,
        before_send: Callable[[], None] | None,
        *,
        last: bool,
        cookies: Cookies | None,
    ) -> ClientResponse:
        if cookies is not None and cookies.any and (value := cookies.header(url)):
            headers = {**headers, field_names.COOKIE: value}
        head = self._head(verb, headers, url, None if body is None else len(body))
        return await self.send(head, body or b"", before_send, last=last, cookies=cookies, url=url)

    async def send(
        self,
        head: bytes,
        body: bytes,
        before_send: Callable[[], None] | None = None,
        *,
        last: bool = False,
        cookies: Cookies | None = None,
        url: URL | None = None,
        redirects: int = 0,
    ) -> ClientResponse:
        """Send a request with an encoded head, without adding credentials, and wait for the head of the response.

        Follows redirects inside the origin, decodes the body and updates `cookies`. `redirects`: number of those
        followed so far. Raises `NotSent`, `RefusedUpstream` and `OutcomeUnknown`. Cancellation closes the connection.
        """
        connection = self.connections.take()
        if connection is None:
            await in_task()
            connection = await self.connections.connected()
        try:
            answer = connection.ask(head, body, before_send, last=last)
        except OSError as error:
            raise self.connections.not_sent(error) from None
        except NotSent:
            connection.close()
            raise
        try:
            response = await answer
        except OSError as error:
            raise self.connections.broken(error) from None
        except asyncio.CancelledError:
            connection.give_up(answer)
            raise
        if not response.head.special:
            return response
        try:
            following = self._examine(response, head, url or self.url, cookies, redirects)
            if following is None:
                return decoded(response)
        except UnknownCoding as problem:
            response.close()
            raise OutcomeUnknown(str(problem)) from None
        except BaseException:
            response.close()
            raise
        response.spend()
        target, head = following
        return await self.send(head, body, before_send, last=last, cookies=cookies, url=target, redirects=redirects + 1)

    def _examine(
        self, response: ClientResponse, head: bytes, url: URL, cookies: Cookies | None, redirects: int
    ) -> tuple[URL, bytes] | None:
        """Keep the cookies of a response. Return the URL and the head of the request to send next, for a redirect."""
        if cookies is not None:
            cookies.keep(url, response.headers)
        proxy = self.connections.forwarding
        if response.status == 407 and proxy is not None:
            raise self.connections.not_sent(refused_by(proxy, 407))
        if response.status not in REDIRECTS:
            return None
        target = destination(response, head[: head.index(b" ")].decode(), url)
        if redirects == MAX_REDIRECTS:
            raise RefusedUpstream(f"it answers with more than {MAX_REDIRECTS} redirects", status=response.status)
        if not self._redirected:
            self._redirected = True
            logger.bind(upstream=self._name).info(
                "upstream {} answers with redirects, each of which costs a round trip; "
                "set url to the address that they lead to",
                self._name,
            )
        cookie = cookies.header(target) if cookies is not None else ""
        return target, redirected(head, self._target(target), cookie)

    def prepared(self, headers: Mapping[str, str]) -> bytes | None:
        """The encoded head of a POST with these headers, up to and without the value of Content-Length.

        None with access tokens, since the head then differs per request. Raises `NotSent` for an invalid header.
        """
        if self.tokens is not None:
            return None
        return self._start("POST", headers, self.url) + b"Content-Length: "

    # -- requests as bytes --------------------------------------------------------------------------------------

    def _head(self, verb: str, headers: Mapping[str, str], url: URL, size: int | None) -> bytes:
        """The encoded head of a request. Raises `NotSent` for an invalid header."""
        start = self._start(verb, headers, url)
        return start + b"\r\n" if size is None else b"%bContent-Length: %d\r\n\r\n" % (start, size)

    def _start(self, verb: str, headers: Mapping[str, str], url: URL) -> bytes:
        """The request line and headers, without Content-Length and the final empty line."""
        return b"%b %b HTTP/1.1\r\n%b" % (verb.encode(), self._target(url), self._block(headers))

    def _target(self, url: URL) -> bytes:
        """The request target: a path, or the whole URL for a proxy that forwards the request."""
        if self.connections.forwarding is not None:
            return f"{url.scheme}://{url.host_port_subcomponent}{url.raw_path_qs}".encode()
        return url.raw_path_qs.encode()

    def _block(self, headers: Mapping[str, str]) -> bytes:
        """All header lines but Content-Length. `headers` replace configured headers of the same name."""
        complete: CIMultiDict[str] = CIMultiDict(
            {
                field_names.HOST: self.url.host_port_subcomponent or "",
                field_names.USER_AGENT: USER_AGENT,
                field_names.ACCEPT_ENCODING: "identity",
            }
        )
        if self.url.user is not None:
            secret = f"{self.url.user}:{self.url.password or ''}".encode("latin-1", "replace")
            complete[field_names.AUTHORIZATION] = f"Basic {b64encode(secret).decode()}"
        proxy = self.connections.forwarding
        if proxy is not None and proxy.authorization:
            complete[field_names.PROXY_AUTHORIZATION] = proxy.authorization
        complete.update(self._headers)
        complete.update(headers)
        for name, value in complete.items():
            if not is_token(name) or _UNSENDABLE.search(value) is not None:
                raise NotSent(f"the header {name[:100]!r} has characters that no header may have")
        return "".join(f"{name}: {value}\r\n" for name, value in complete.items()).encode("latin-1")

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        self.connections.close()
        if self.tokens is not None and self._owns_tokens:
            await self.tokens.close()


async def _worth_another(tokens: TokenSource, authorization: str | None, response: ClientResponse) -> bool:
    """Whether to send the request again with another token after this response. Raises `NotSent`."""
    if response.status not in {401, 403}:
        return False
    challenge = Challenge.of(response.headers.getall(field_names.WWW_AUTHENTICATE, ()))
    try:
        return await tokens.challenged(authorization, response.status, challenge)
    except BaseException:
        response.close()
        raise
