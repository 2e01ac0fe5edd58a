"""The access tokens of principals that logged in at an upstream (`identity = "user"`)."""

from __future__ import annotations

from typing import Final

from yarl import URL

from gateway_core.config import UpstreamConfig
from gateway_core.errors import NoIdentity, UserLoginNeeded
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.auth import Logins, LoginTokens, PrincipalTokens, TokenSource
from gateway_core.upstream.auth.login_state import why_unusable
from gateway_core.upstream.network.access import Access


class UserTokens(PrincipalTokens):
    """Gives each verified principal the tokens of its login."""

    def __init__(self, config: UpstreamConfig, logins: Logins) -> None:
        assert config.auth is not None, "checked by the configuration"
        assert config.url is not None, "checked by the configuration"
        super().__init__()
        self._name: Final = config.name
        self._url: Final = URL(config.url)
        self._auth: Final = config.auth
        self._logins: Final = logins

    def part(self, agent: Agent) -> str:
        """The time of the login, so that another login of the principal gets other connections.

        Raises `NoIdentity` if the principal is not verified, and `UserLoginNeeded` if it has no login that can be used.
        """
        principal = agent.principal
        if not principal.verified:
            raise NoIdentity(
                "each user logs in there, and it is not verified who calls: the operator enables a plugin that "
                "authenticates agents (auth_apikey, auth_jwt, auth_mtls)"
            )
        login = self._logins.of(principal.id, self._name)
        if reason := why_unusable(login, self._url, self._auth):
            raise UserLoginNeeded(self._name, reason)
        assert login is not None, "otherwise it cannot be used"
        return str(login.since)

    def source(self, agent: Agent, access: Access) -> TokenSource:
        identity = agent.principal.id
        return LoginTokens(
            self._name, self._url, self._auth, access, logins=self._logins, identity=identity, counts=self.counts
        )

    def used(self, source: TokenSource, agent: Agent) -> None:
        return
