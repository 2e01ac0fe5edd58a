"""Access tokens that the gateway requests as a client: the part that client credentials and token exchange share.

If the upstream asks for more scopes, they are added to those already requested.
"""

from __future__ import annotations

from abc import abstractmethod

from loguru import logger
from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import AuthConfig
from gateway_core.errors import NotSent
from gateway_core.upstream.auth.challenge import MAX_SCOPES, Challenge
from gateway_core.upstream.auth.credentials import Credentials
from gateway_core.upstream.auth.discovery import AuthorizationServer, configured, discover, resource_of
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.auth.endpoint import EndpointAnswer, ask
from gateway_core.upstream.auth.tokens import Backoff, RenewalCounts, Token, TokenSource
from gateway_core.upstream.network.access import Access


class ClientGrant(TokenSource):
    """An access token that the gateway requests with its credentials as a client of the authorization server."""

    def __init__(
        self,
        upstream: str,
        url: URL,
        config: AuthConfig,
        access: Access,
        *,
        held: HeldSecrets,
        counts: RenewalCounts | None = None,
    ) -> None:
        """`access` holds the upstream's proxies, its TLS, and the addresses at which it was reached; its metadata may
        name others of the same kind. `held` learns each token. `counts`: see `TokenSource`."""
        super().__init__(upstream, Fetcher.of(url, config, access), counts)
        self._url = url
        self._config = config
        self._credentials = Credentials.of(config)
        self._server = configured(config)
        self._lost = self._server is None
        """Whether the authorization server must be discovered (again)."""
        self._issuer = config.issuer
        """The issuer of the credentials; once it is known, no other server gets them."""
        self._scopes: tuple[str, ...] = tuple(config.scope.split()) if config.scope is not None else ()
        """The scopes of the last token request, or those configured."""
        self._held = held
        self._step_ups = Backoff()

    async def challenged(self, authorization: str | None, status: int, challenge: Challenge) -> bool:
        if status == 403:
            return challenge.error == "insufficient_scope" and await self._step_up(authorization, challenge)
        if self._has_other(authorization):
            return True
        if self._refused_again():
            return False
        await self._renewed(challenge, self._renewals, replaces_refused=authorization is not None)
        return True

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

    def _ready(self) -> bool:
        return not self._lost

    async def _renew(self, challenge: Challenge | None, backoff: Backoff, replaces_refused: bool) -> Token:
        try:
            server = await self._find(challenge)
            wanted = self._wanted(server, challenge)
            answer = await ask(self._fetcher, server, self._credentials, self._form(server, wanted))
            self._check(answer)
        except Refused as failure:
            backoff.failed(str(failure))
            # The endpoint may have moved. The next 401 leads to the new one.
            self._lost = backoff is self._renewals and self._config.token_url is None
            raise
        backoff.succeeded()
        self.counts.succeeded()
        self._scopes = wanted
        self._held.learn(f"access token of upstream {self._upstream}", answer.access_token)
        self._token = Token.of(answer.access_token, self._life(answer), replaces_refused=replaces_refused)
        return self._token

    @abstractmethod
    def _form(self, server: AuthorizationServer, scopes: tuple[str, ...]) -> dict[str, str]:
        """The token request."""

    def _check(self, answer: EndpointAnswer) -> None:
        """Raise `Refused` if a token response is not what was asked for."""

    def _life(self, answer: EndpointAnswer) -> float:
        """The seconds for which a token is used."""
        return answer.life

    async def _discover(self, challenge: Challenge | None) -> AuthorizationServer:
        """Find the authorization server. Raises `Refused`."""
        return await discover(self._fetcher, self._url, challenge or Challenge(), self._issuer)

    def _target(self, server: AuthorizationServer, scopes: tuple[str, ...]) -> dict[str, str]:
        """The members of a token request that say what the token is for."""
        found = {}
        if scope := " ".join(scopes):
            found["scope"] = scope
        if resource := resource_of(self._config, server, self._url):
            found["resource"] = resource
        return found

    async def _find(self, challenge: Challenge | None) -> AuthorizationServer:
        """The authorization server. Discovers it again if the upstream refused a token of the known one."""
        refused = challenge is not None and challenge.error != "insufficient_scope"
        if self._server is not None and not self._lost and (self._config.token_url is not None or not refused):
            return self._server
        server = await self._discover(challenge)
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
