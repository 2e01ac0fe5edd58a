"""The tokens of principals: who has some, and what the others get."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from gateway_core.api import Principal
from gateway_core.config import UpstreamConfig
from gateway_core.config.auth import AuthConfig
from gateway_core.errors import NoIdentity, UserLoginNeeded
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.auth.logins import GATEWAY, Client, Login, Logins
from gateway_core.upstream.identities.user_tokens import UserTokens
from gateway_core.upstream.network.access import Access

AUTH = AuthConfig(grant="authorization_code", identity="user")
CONFIG = UpstreamConfig(name="tracker", transport="http", url="http://127.0.0.1:1/mcp", auth=AUTH)
LOGIN = Login(since=1.0, url="http://127.0.0.1:1/mcp", issuer="", client=Client("c"), access_token="hidden-token")


def agent(name: str = "") -> Agent:
    principal = Principal.proven(name, issuer="test") if name else Principal("ada|test", address="127.0.0.1")
    return Agent(principal, "modern", "2026-07-28")


@pytest.fixture
def logins() -> Logins:
    return Logins()


@pytest.fixture
def tokens(logins: Logins) -> UserTokens:
    return UserTokens(CONFIG, logins)


async def test_only_its_own_login_serves_a_principal(tokens: UserTokens, logins: Logins) -> None:
    await logins.change(GATEWAY, "tracker", lambda _: LOGIN)
    await logins.change("bob|test", "tracker", lambda _: LOGIN)
    with pytest.raises(UserLoginNeeded, match="the user has to log in at upstream tracker, there is no login"):
        tokens.part(agent("ada"))
    assert tokens.part(agent("bob")) == "1.0"


async def test_a_claimed_name_has_no_login(tokens: UserTokens, logins: Logins) -> None:
    await logins.change("ada|test", "tracker", lambda _: LOGIN)
    with pytest.raises(NoIdentity, match="enables a plugin that authenticates agents") as refused:
        tokens.part(agent())
    assert not isinstance(refused.value, UserLoginNeeded)


async def test_another_login_has_other_connections(tokens: UserTokens, logins: Logins) -> None:
    await logins.change("ada|test", "tracker", lambda _: LOGIN)
    before = tokens.part(agent("ada"))
    await logins.change("ada|test", "tracker", lambda _: replace(LOGIN, since=2.0))
    assert tokens.part(agent("ada")) != before


@pytest.mark.parametrize(
    ("login", "reason"),
    [
        (replace(LOGIN, ended="the authorization server ended it (invalid_grant)"), "invalid_grant"),
        (replace(LOGIN, expires_at=time.time() - 1), "the login has expired"),
        (replace(LOGIN, url="http://127.0.0.1:2/mcp"), "the login is for another url"),
    ],
)
async def test_a_login_that_cannot_be_used_needs_another(
    tokens: UserTokens, logins: Logins, login: Login, reason: str
) -> None:
    await logins.change("ada|test", "tracker", lambda _: login)
    with pytest.raises(UserLoginNeeded, match=reason):
        tokens.part(agent("ada"))


async def test_its_tokens_are_hidden_where_they_are_used(tokens: UserTokens, logins: Logins) -> None:
    await logins.change("ada|test", "tracker", lambda _: LOGIN)
    source = tokens.source(agent("ada"), Access(CONFIG))
    assert await source.authorization() == "Bearer hidden-token"
    assert source.clean(b'{"a":"hidden-token"}') == b'{"a":"[REDACTED]"}'
    assert source.hide("it said hidden-token") == "it said [REDACTED]"
    await source.close()


async def test_without_its_login_a_source_never_asks_the_upstream(tokens: UserTokens) -> None:
    source = tokens.source(agent("ada"), Access(CONFIG))
    with pytest.raises(UserLoginNeeded):
        await source.authorization()
    await source.close()
