"""Access tokens for one upstream, by the OAuth 2.0 client-credentials grant (RFC 6749, section 4.4).

A `TokenSource` keeps one token and renews it in the background before it expires. If there is none or the upstream
refused it, renewal is immediate. If the upstream asks for more scopes, they are added. At most one token request is
in flight, however many calls need a token. The agent's credentials are never used (basic/authorization forbids token
passthrough).
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Final

from loguru import logger
from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import AuthConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.auth.challenge import MAX_SCOPES, Challenge
from gateway_core.upstream.auth.credentials import Credentials
from gateway_core.upstream.auth.discovery import AuthorizationServer, canonical, discover
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.auth.endpoint import ask
from gateway_core.upstream.connections.await_shared import await_shared
from gateway_core.upstream.network.access import Access

AHEAD: Final = 60.0
"""Seconds before expiry at which a token is renewed; at half its lifetime if that is less than two minutes."""
DISCOVERY: Final = 20.0
"""Seconds for the entire discovery of an authorization server."""
MAX_BACKOFF: Final = 30.0
"""Maximum seconds between attempts; the delay after failures doubles: 1, 2, 4, …"""
REFUSED_AGAIN: Final = 30.0
"""Seconds for which a token that replaced a refused one is not replaced again."""


@dataclass(frozen=True, slots=True)
class _Token:
    authorization: str
    obtained: float
    renew_at: float
    expires_at: float
    replaces_refused: bool


@dataclass(slots=True)
class _Backoff:
    """Exponential backoff after failures."""

    failures: int = 0
    until: float = 0.0
    reason: str = ""

    @property
    def wait(self) -> float:
        return max(0.0, self.until - time.monotonic())

    def failed(self, reason: str) -> None:
        self.until = time.monotonic() + min(MAX_BACKOFF, 2.0**self.failures)
        self.failures = min(self.failures + 1, 10)
        self.reason = reason

    def succeeded(self) -> None:
        """Reset the delay for the next failure."""
        self.failures = 0


class TokenSource:
    """Keeps and renews the access token of one upstream."""

    def __init__(
        self,
        upstream: str,
        url: URL,
        config: AuthConfig,
        access: Access,
        *,
        held: HeldSecrets,
    ) -> None:
        """`access` holds the upstream's proxies, its TLS, and the addresses at which it was reached; its metadata may
        name others of the same kind. `held` learns each token."""
        self._upstream = upstream
        self._url = url
        self._config = config
        self._credentials = Credentials(config)
        named = [URL(text) for text in (config.token_url, config.issuer) if text is not None]
        self._fetcher = Fetcher(url, named, access)
        self._server = (
            AuthorizationServer(URL(config.token_url), config.issuer) if config.token_url is not None else None
        )
        self._lost = self._server is None
        """Whether the authorization server must be discovered (again)."""
        self._issuer = config.issuer
        """The issuer of the credentials; once it is known, no other server gets them."""
        self._scopes: tuple[str, ...] = tuple(config.scope.split()) if config.scope is not None else ()
        """The scopes of the last token request, or those configured."""
        self._held = held
        self._token: _Token | None = None
        self._task: asyncio.Task[_Token] | None = None
        self._renewals = _Backoff()
        self._step_ups = _Backoff()

    async def authorization(self) -> str | None:
        """The value of the `Authorization` header; None until a challenge leads to the authorization server.

        Raises `NotSent` if no token can be obtained.
        """
        now = time.monotonic()
        token = self._token
        if token is not None and now < token.renew_at:
            return token.authorization
        if token is not None and now < token.expires_at:
            if now >= self._renewals.until:
                self._renewal(None, self._renewals, replaces_refused=False)
            return token.authorization
        if self._lost:
            return None
        return (await self._renewed(None, self._renewals)).authorization

    async def challenged(self, authorization: str | None, status: int, challenge: Challenge) -> bool:
        """Handle a 401 or 403 answer to `authorization`: get another token if that can help.

        Returns whether to send the request again. A token that replaced a refused one is not replaced again for
        `REFUSED_AGAIN` seconds: the upstream, not the token, is then the problem. Raises `NotSent`.
        """
        if status == 403:
            return challenge.error == "insufficient_scope" and await self._step_up(authorization, challenge)
        now = time.monotonic()
        token = self._token
        if token is not None and token.authorization != authorization and now < token.expires_at:
            return True
        if token is not None and token.replaces_refused and now < token.obtained + REFUSED_AGAIN:
            return False
        await self._renewed(challenge, self._renewals, replaces_refused=authorization is not None)
        return True

    async def close(self) -> None:
        """Cancel a renewal in progress and close the HTTP sessions."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._fetcher.close()

    async def _step_up(self, authorization: str | None, challenge: Challenge) -> bool:
        """Request a token with the missing scopes added to those already requested (Step-Up Authorization)."""
        if self._token is None or self._config.scope is not None:
            return False
        if self._token.authorization != authorization:
            return True
        missing = set(challenge.scopes) - set(self._scopes)
        if not missing or len(self._scopes) + len(missing) > MAX_SCOPES:
            return False
        try:
            await self._renewed(challenge, self._step_ups)
        except NotSent:
            return False  # the current token still serves other requests
        return True

    @property
    def _who(self) -> str:
        where = f" from {self._server.token_endpoint.host}" if self._server is not None else ""
        return f"no access token for upstream {self._upstream!r}{where}"

    async def _renewed(
        self, challenge: Challenge | None, backoff: _Backoff, *, replaces_refused: bool = False
    ) -> _Token:
        if self._task is None and backoff.wait:
            raise NotSent(f"{self._who}: {backoff.reason}", retry_after=backoff.wait)
        task = self._renewal(challenge, backoff, replaces_refused=replaces_refused)
        try:
            return await await_shared(task, f"{self._who}: the gateway is closing")
        except Refused as failure:
            raise NotSent(f"{self._who}: {failure}", retry_after=backoff.wait) from None

    def _renewal(
        self, challenge: Challenge | None, backoff: _Backoff, *, replaces_refused: bool
    ) -> asyncio.Task[_Token]:
        """The renewal in progress; starts one if there is none."""
        if self._task is None:
            renewing = self._renew(challenge, backoff, replaces_refused)
            self._task = asyncio.create_task(renewing, name="renew access token")
            self._task.add_done_callback(self._ended)
        return self._task

    def _ended(self, task: asyncio.Task[_Token]) -> None:
        self._task = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("{}: {}", self._who, failure)

    async def _renew(self, challenge: Challenge | None, backoff: _Backoff, replaces_refused: bool) -> _Token:
        try:
            server = await self._find(challenge)
            wanted = self._wanted(server, challenge)
            answer = await ask(self._fetcher, server, self._credentials, wanted, self._resource(server))
        except Refused as failure:
            backoff.failed(str(failure))
            # The endpoint may have moved. The next 401 leads to the new one.
            self._lost = backoff is self._renewals and self._config.token_url is None
            raise
        backoff.succeeded()
        self._scopes = wanted
        self._held.learn(f"access token of upstream {self._upstream}", answer.access_token)
        now, life = time.monotonic(), answer.life
        self._token = _Token(
            authorization=f"Bearer {answer.access_token}",
            obtained=now,
            renew_at=now + life - min(AHEAD, life / 2) if life < math.inf else life,
            expires_at=now + life,
            replaces_refused=replaces_refused,
        )
        return self._token

    async def _find(self, challenge: Challenge | None) -> AuthorizationServer:
        """The authorization server. Discovers it again if the upstream refused a token of the known one."""
        refused = challenge is not None and challenge.error != "insufficient_scope"
        if self._server is not None and not self._lost and (self._config.token_url is not None or not refused):
            return self._server
        try:
            async with asyncio.timeout(DISCOVERY):
                server = await discover(self._fetcher, self._url, challenge or Challenge(), self._issuer)
        except TimeoutError:
            raise Refused(f"its authorization server was not found within {DISCOVERY:g} s") from None
        if self._issuer is None:
            self._issuer = server.issuer
            logger.info(
                "upstream {} is authorized by {}; write issuer = {!r} into its auth to keep the credentials to that",
                self._upstream,
                server.issuer,
                server.issuer,
            )
        self._server, self._lost = server, False
        return server

    def _wanted(self, server: AuthorizationServer, challenge: Challenge | None) -> tuple[str, ...]:
        """The scopes to ask for (basic/authorization, Scope Selection Strategy)."""
        if self._config.scope is not None:
            return self._scopes
        asked = challenge.scopes if challenge is not None else ()
        return tuple(dict.fromkeys((*self._scopes, *asked)))[:MAX_SCOPES] or server.scopes

    def _resource(self, server: AuthorizationServer) -> str:
        """The `resource` parameter of the token request; empty if the operator configured none to be sent."""
        if self._config.resource is not None:
            return self._config.resource
        return server.resource or canonical(self._url)
