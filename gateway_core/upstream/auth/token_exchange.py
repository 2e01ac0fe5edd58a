"""Access tokens by token exchange (RFC 8693): an agent's verified token becomes one for this upstream.

The agent's token is sent to the authorization server that the configuration names, never to one that the upstream
names, and never to the upstream.
"""

from __future__ import annotations

from typing import Final

from yarl import URL

from gateway_core.concealing import HeldSecrets
from gateway_core.config import AuthConfig, UpstreamConfig
from gateway_core.errors import NoIdentity
from gateway_core.exchange.exchange import Agent
from gateway_core.exchange.presented import rights_of
from gateway_core.upstream.auth.challenge import Challenge
from gateway_core.upstream.auth.client_grant import ClientGrant
from gateway_core.upstream.auth.discovery import AuthorizationServer, discover_issuer
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.endpoint import EndpointAnswer
from gateway_core.upstream.auth.tokens import Backoff, PrincipalTokens, RenewalCounts, TokenSource
from gateway_core.upstream.network.access import Access

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_TYPE: Final = "urn:ietf:params:oauth:token-type:"  # noqa: S105 - a prefix of token types
ISSUED: Final = frozenset({f"{TOKEN_TYPE}access_token", f"{TOKEN_TYPE}jwt"})
"""The token types (RFC 8693, section 3) that can be sent to an upstream."""
MAX_LIFE: Final = 3600.0
"""Seconds after which a token is exchanged again, also if it is valid for longer or for an unknown time."""


class TokenExchange(ClientGrant):
    """The access token of one principal for this upstream."""

    def __init__(
        self, upstream: str, url: URL, config: AuthConfig, access: Access, *, subject_token: str, counts: RenewalCounts
    ) -> None:
        """`subject_token`: the agent's access token. See `ClientGrant`."""
        self.held: Final = HeldSecrets()
        super().__init__(upstream, url, config, access, held=self.held, counts=counts)
        self._subject_token = subject_token

    def present(self, subject_token: str) -> None:
        """Exchange this token of the agent from now on. The last exchanged one stays in use until it expires."""
        if subject_token != self._subject_token:
            self._subject_token = subject_token
            self._renewals = Backoff()  # what was refused was the earlier one

    def hide(self, text: str) -> str:
        return self.held.clean_line(text.encode(errors="replace")).decode()

    def clean(self, data: bytes) -> bytes:
        return self.held.clean(data)

    def _ready(self) -> bool:
        """Always: the authorization server is configured."""
        return True

    async def _discover(self, challenge: Challenge | None) -> AuthorizationServer:
        assert self._config.issuer is not None, "checked by the configuration"
        return await discover_issuer(self._fetcher, self._config.issuer)

    def _form(self, server: AuthorizationServer, scopes: tuple[str, ...]) -> dict[str, str]:
        """The token request (RFC 8693, section 2.1)."""
        form = {
            "grant_type": GRANT,
            "subject_token": self._subject_token,
            "subject_token_type": f"{TOKEN_TYPE}{self._config.subject_token_type}",
            "requested_token_type": f"{TOKEN_TYPE}access_token",
            **self._target(server, scopes),
        }
        if self._config.audience is not None:
            form["audience"] = self._config.audience
        return form

    def _check(self, answer: EndpointAnswer) -> None:
        """Check a token response (RFC 8693, section 2.2.1)."""
        if answer.issued_token_type not in ISSUED:
            raise Refused("its answer has no issued_token_type that says that the token is an access token")
        if not answer.token_type:
            raise Refused("its answer has no token_type")
        if answer.access_token == self._subject_token:
            raise Refused("it answered with the agent's own token, which is never passed on")

    def _life(self, answer: EndpointAnswer) -> float:
        return min(answer.life, MAX_LIFE)


class ExchangedTokens(PrincipalTokens):
    """Exchanges the tokens of all agents for one upstream."""

    def __init__(self, config: UpstreamConfig) -> None:
        assert config.auth is not None, "checked by the caller"
        assert config.url is not None, "checked by the configuration"
        super().__init__()
        self._name = config.name
        self._url = URL(config.url)
        self._auth = config.auth

    def part(self, agent: Agent) -> str:
        """The rights of the agent's token: another token of the same subject may have less of them."""
        _token_of(agent)
        return rights_of(agent.principal)

    def source(self, agent: Agent, access: Access) -> TokenSource:
        token = _token_of(agent)
        return TokenExchange(self._name, self._url, self._auth, access, subject_token=token, counts=self.counts)

    def used(self, source: TokenSource, agent: Agent) -> None:
        if isinstance(source, TokenExchange):
            source.present(_token_of(agent))


def _token_of(agent: Agent) -> str:
    """The agent's access token. Raises `NoIdentity` without one."""
    token = agent.presented.token
    if token is None or not agent.principal.verified:
        raise NoIdentity(
            "it is reached with a token for the user, in exchange for the access token of the agent, and the agent "
            "was not authenticated with an access token of an authorization server"
        )
    return token
