"""The tokens of a login over time: used, renewed, rotated, refused, ended, replaced by another login."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import SecretStr

from gateway_core.errors import LoginNeeded, NotSent, RefusedUpstream
from gateway_core.upstream.auth import Challenge, Logins, documents, login_tokens
from gateway_core.upstream.auth.logins import GATEWAY
from gateway_core.upstream.auth.tokens import RenewalCounts

SECRET = "s3cr3t:/ä&"
COMMAND = "rad mcp proxy login fixture"


@pytest.fixture
def protected(world: Any) -> Any:
    world.protect()
    world.authority.publish_logins()
    return world


async def outlived(world: Any, **members: Any) -> None:
    """Let the access token of the login expire."""
    await world.logins.change(GATEWAY, "fixture", lambda it: replace(it, expires_at=time.time() - 1, **members))


async def test_the_access_token_of_the_login_is_sent(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    assert await protected.status(client) == 200
    assert protected.resource.used == ["Bearer token-1"]
    assert len(protected.authority.forms) == 1


async def test_an_upstream_that_needs_no_login_works_without_one(protected: Any) -> None:
    assert await protected.status(protected.login_client(), "/open") == 200


async def test_without_a_login_the_error_says_how_to_log_in_and_nothing_is_asked_for(protected: Any) -> None:
    client = protected.login_client()
    for _ in range(3):
        with pytest.raises(LoginNeeded, match=f"there is no login; the operator logs in with: {COMMAND}"):
            await protected.status(client)
    assert protected.authority.asked == []
    assert protected.resource.asked == []


async def test_a_new_login_is_used_at_once(protected: Any) -> None:
    client = protected.login_client()
    with pytest.raises(LoginNeeded):
        await protected.status(client)
    await protected.log_in()
    assert await protected.status(client) == 200
    await protected.log_in()
    assert await protected.status(client) == 200
    assert protected.resource.used == ["", "Bearer token-1", "Bearer token-2"]


async def test_after_a_logout_nothing_is_sent(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    assert await protected.status(client) == 200
    await protected.logins.change(GATEWAY, "fixture", lambda _: None)
    with pytest.raises(LoginNeeded):
        await protected.status(client)
    assert protected.resource.used[-1] == ""


async def test_waiting_for_a_login_ends_with_the_login(protected: Any) -> None:
    client = protected.login_client()
    stamp = client.login.stamp
    waiting = asyncio.create_task(client.login.changed(stamp))
    await asyncio.sleep(0)
    assert not waiting.done()
    await protected.log_in()
    async with asyncio.timeout(20):
        await waiting
    stamp = client.login.stamp
    await outlived(protected)
    assert await protected.status(client) == 200
    assert client.login.stamp == stamp, "a renewal is no new login"


# -- renewal --------------------------------------------------------------------------------------------------------


async def test_an_expired_token_is_renewed_and_the_refresh_token_rotates(protected: Any) -> None:
    await protected.log_in(Challenge(scopes=("a",)))
    client = protected.login_client()
    for number in (2, 3):
        await outlived(protected)
        assert await protected.status(client) == 200
        form = protected.authority.forms[-1]
        assert form["grant_type"] == "refresh_token"
        assert form["refresh_token"] == f"refresh-{number - 1}"
        assert form["resource"] == f"{protected.resource.origin}/mcp"
        login = protected.logins.of(GATEWAY, "fixture")
        assert (login.access_token, login.refresh_token) == (f"token-{number}", f"refresh-{number}")
        assert login.scopes == ("a",)
        assert login.leased_until == 0


async def test_a_server_that_does_not_rotate_keeps_the_refresh_token(protected: Any) -> None:
    await protected.log_in()
    protected.authority.offline = False
    await outlived(protected)
    assert await protected.status(protected.login_client()) == 200
    assert protected.logins.of(GATEWAY, "fixture").refresh_token == "refresh-1"


async def test_one_renewal_serves_all_calls(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    assert await protected.status(client) == 200
    await outlived(protected)
    protected.authority.delay = 0.1
    assert await asyncio.gather(*(protected.status(client) for _ in range(10))) == [200] * 10
    assert len(protected.authority.forms) == 2


async def test_a_token_is_renewed_ahead_without_holding_calls_up(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    await protected.logins.change(GATEWAY, "fixture", lambda it: replace(it, expires_at=time.time() + 0.5))
    protected.authority.delay = 0.05
    assert await protected.status(client) == 200
    await asyncio.sleep(0.3)
    assert await protected.status(client) == 200
    async with asyncio.timeout(20):
        while len(protected.authority.forms) < 2:
            await asyncio.sleep(0.02)
    assert protected.resource.used[0] == "Bearer token-1"


@pytest.mark.parametrize("gateways", [2, 4])
async def test_processes_with_one_file_use_a_refresh_token_once(
    protected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateways: int
) -> None:
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    stores = [Logins(tmp_path / "mcp-proxy.logins") for _ in range(gateways)]
    protected.logins = stores[0]
    await protected.log_in()
    await outlived(protected)
    clients = []
    for store in stores:
        await store.load()
        protected.logins = store
        clients.append(protected.login_client())
    protected.authority.delay = 0.2
    assert await asyncio.gather(*(protected.status(client) for client in clients)) == [200] * gateways
    assert [form["grant_type"] for form in protected.authority.forms] == ["authorization_code", "refresh_token"]


async def test_a_lease_that_its_holder_did_not_end_lapses(protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await protected.log_in()
    await outlived(protected, leased_until=time.time() + 0.5)
    monkeypatch.setattr(login_tokens, "LEASE_CHECK", 0.02)
    assert await protected.status(protected.login_client()) == 200


async def test_a_renewal_that_fails_for_a_while_does_not_end_the_login(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    assert await protected.status(client) == 200
    await outlived(protected)
    protected.authority.refuses = (503, SECRET)
    with pytest.raises(NotSent, match="HTTP 503") as caught:
        await protected.status(client)
    assert not isinstance(caught.value, LoginNeeded)
    assert SECRET not in caught.value.reason
    assert caught.value.retry_after is not None
    protected.authority.refuses = None
    async with asyncio.timeout(20):
        while True:
            try:
                assert await protected.status(client) == 200
                break
            except NotSent:
                await asyncio.sleep(0.1)


async def test_a_slow_server_is_bounded(protected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await protected.log_in()
    await outlived(protected)
    protected.authority.delay = 5.0
    monkeypatch.setattr(documents, "TIMEOUT", 0.2)
    with pytest.raises(NotSent, match="no answer within"):
        await protected.status(protected.login_client())
    assert protected.logins.of(GATEWAY, "fixture").leased_until == 0


async def test_a_refresh_token_that_was_used_before_ends_the_login(protected: Any, logged: list[str]) -> None:
    await protected.log_in()
    protected.authority.refresh.clear()
    await outlived(protected)
    client = protected.login_client()
    for _ in range(3):
        with pytest.raises(LoginNeeded, match=rf"ended it \(invalid_grant\).*{COMMAND}"):
            await protected.status(client)
    assert len(protected.authority.forms) == 2, "the refresh token is not tried again"
    login = protected.logins.of(GATEWAY, "fixture")
    assert (login.access_token, login.refresh_token) == ("", "")
    assert SECRET not in " ".join(logged)
    await protected.log_in()
    assert await protected.status(client) == 200
    assert len(protected.authority.clients) == 1, "the client is still registered"


async def test_a_registered_client_that_is_unknown_ends_the_login_and_registers_again(protected: Any) -> None:
    await protected.log_in()
    await outlived(protected)
    protected.authority.refuses = (401, "invalid_client")
    client = protected.login_client()
    with pytest.raises(LoginNeeded, match="invalid_client"):
        await protected.status(client)
    protected.authority.refuses = None
    await protected.log_in()
    assert len(protected.authority.clients) == 2
    assert await protected.status(client) == 200


async def test_a_wrong_secret_in_the_configuration_does_not_end_the_login(protected: Any) -> None:
    auth = {"client_id": "known", "client_secret": SecretStr(SECRET)}
    await protected.log_in(**auth)
    await outlived(protected)
    protected.authority.refuses = (401, "invalid_client")
    with pytest.raises(NotSent, match="invalid_client") as caught:
        await protected.status(protected.login_client(**auth))
    assert not isinstance(caught.value, LoginNeeded)
    assert protected.logins.of(GATEWAY, "fixture").refresh_token == "refresh-1"


async def test_a_login_without_a_refresh_token_ends_with_its_access_token(protected: Any) -> None:
    protected.authority.offline = False
    await protected.log_in()
    client = protected.login_client()
    assert await protected.status(client) == 200
    await outlived(protected)
    with pytest.raises(LoginNeeded, match="the login has expired"):
        await protected.status(client)
    assert len(protected.authority.forms) == 1


async def test_an_expired_token_is_renewed_in_a_new_process_once_the_upstream_was_reached(protected: Any) -> None:
    """The addresses of the upstream decide at which ones its authorization server may be."""
    await protected.log_in()
    await outlived(protected)
    assert await protected.status(protected.login_client()) == 200
    assert protected.resource.used == ["", "Bearer token-2"]


# -- refused tokens -------------------------------------------------------------------------------------------------


async def test_a_refused_token_is_renewed_and_the_request_sent_again(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    protected.resource.tokens.clear()
    assert await protected.status(client) == 200
    assert protected.resource.used == ["Bearer token-1", "Bearer token-2"]


async def test_an_upstream_that_refuses_renewed_tokens_too_is_not_asked_in_a_loop(protected: Any) -> None:
    await protected.log_in()
    protected.authority.valid = False
    protected.resource.tokens.clear()
    client = protected.login_client()
    assert await protected.status(client) == 401
    for _ in range(3):
        with pytest.raises(RefusedUpstream, match=f"refuses new access tokens, too.*{COMMAND}") as caught:
            await protected.status(client)
        assert caught.value.status == 401
    assert len(protected.authority.forms) == 2


async def test_a_refused_token_without_a_refresh_token_needs_a_login(protected: Any) -> None:
    protected.authority.offline = False
    await protected.log_in()
    protected.resource.tokens.clear()
    with pytest.raises(LoginNeeded, match="refuses the access token"):
        await protected.status(protected.login_client())


async def test_an_upstream_that_names_another_server_gets_no_token_of_it(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    protected.resource.tokens.clear()
    protected.protect(authorization_servers=[protected.elsewhere.origin])
    with pytest.raises(NotSent, match="does not name"):
        await protected.status(client)
    assert protected.elsewhere.asked == []
    assert len(protected.authority.forms) == 1


async def test_a_refresh_token_goes_to_the_endpoint_that_its_own_issuer_names(protected: Any) -> None:
    """The metadata is read again from the issuer of the login, and must still be the issuer's."""
    await protected.log_in()
    await outlived(protected)
    protected.authority.publish_logins(
        issuer=protected.elsewhere.origin, token_endpoint=f"{protected.elsewhere.origin}/token"
    )
    with pytest.raises(NotSent, match="another issuer"):
        await protected.status(protected.login_client())
    assert protected.elsewhere.asked == []
    assert len(protected.authority.forms) == 1


@pytest.mark.parametrize(
    ("change", "auth", "reason"),
    [
        ({"url": "https://other.example/mcp"}, {}, "for another url"),
        ({}, {"issuer": "https://other.example"}, "at another issuer"),
        ({}, {"client_id": "another"}, "belongs to another client_id"),
    ],
)
async def test_a_login_that_does_not_fit_the_configuration_is_not_used(
    protected: Any, change: Any, auth: Any, reason: str
) -> None:
    await protected.log_in()
    await protected.logins.change(GATEWAY, "fixture", lambda it: replace(it, **change))
    with pytest.raises(LoginNeeded, match=reason):
        await protected.status(protected.login_client(**auth))
    assert protected.resource.used == []


# -- scopes ---------------------------------------------------------------------------------------------------------


async def test_missing_scopes_are_reported_and_asked_for_by_the_next_login(protected: Any) -> None:
    await protected.log_in(Challenge(scopes=("read",)))
    client = protected.login_client()
    protected.resource.needs = {"write"}
    for _ in range(2):
        with pytest.raises(
            RefusedUpstream, match=rf"scopes that the login does not have \(write\).*{COMMAND}"
        ) as caught:
            await protected.status(client)
        assert caught.value.status == 403
    assert client.login.report()["wanted"] == ["write"]
    assert len(protected.authority.forms) == 1, "no token is asked for"
    login = await protected.log_in()
    assert login.scopes == ("read", "write")
    assert await protected.status(client) == 200
    assert client.login.report()["wanted"] == []


async def test_configured_scopes_are_never_exceeded(protected: Any) -> None:
    await protected.log_in(scope="read")
    protected.resource.needs = {"write"}
    with pytest.raises(RefusedUpstream, match=r"\(write\); the operator adds them to scope"):
        await protected.status(protected.login_client(scope="read"))
    assert protected.logins.of(GATEWAY, "fixture").wanted == ()


async def test_scopes_that_the_login_has_already_are_not_asked_for_again(protected: Any) -> None:
    await protected.log_in(Challenge(scopes=("read",)))
    protected.authority.grants = False
    protected.resource.tokens["token-1"] = set()
    protected.resource.needs = {"read"}
    with pytest.raises(RefusedUpstream, match="names no new ones"):
        await protected.status(protected.login_client())


async def test_endless_demands_stay_bounded(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    protected.resource.insatiable = True
    for _ in range(80):
        with pytest.raises(RefusedUpstream):
            await protected.status(client)
    assert len(protected.logins.of(GATEWAY, "fixture").wanted) == 64


# -- the state for people -------------------------------------------------------------------------------------------


async def test_the_report_tells_the_state_and_no_secret(protected: Any) -> None:
    client = protected.login_client()
    assert client.login.report() == {
        "needed": True,
        "reason": "there is no login",
        "users": None,
        "users_due": None,
        "issuer": None,
        "scopes": [],
        "wanted": [],
        "expires_in": None,
        "renewable": False,
    }
    await protected.log_in(Challenge(scopes=("read",)))
    report = client.login.report()
    assert report.pop("expires_in") == pytest.approx(3600, abs=60)
    assert report == {
        "needed": False,
        "reason": None,
        "users": None,
        "users_due": None,
        "issuer": protected.authority.origin,
        "scopes": ["read"],
        "wanted": [],
        "renewable": True,
    }
    assert "token-1" not in str(client.login.report())


async def test_the_report_counts_logins_of_users_and_those_that_ended(protected: Any) -> None:
    login = await protected.log_in()
    client = protected.login_client(identity="user")
    found = client.login.report()
    assert (found["users"], found["users_due"]) == (0, 0), "the login of the operator is not one of a user"
    for number, changes in enumerate(({}, {"ended": "over"}, {"expires_at": 1.0, "refresh_token": ""})):
        await protected.logins.change(f"user-{number}", "fixture", lambda _, changes=changes: replace(login, **changes))
    found = client.login.report()
    assert (found["users"], found["users_due"]) == (3, 2)


async def test_counts_of_renewals_agree_with_the_endpoint(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    await protected.status(client)
    assert client.tokens.counts == RenewalCounts(), "the login brought the first token"
    assert client.tokens.expires_at == protected.logins.of(GATEWAY, "fixture").expires_at
    await outlived(protected)
    assert await protected.status(client) == 200
    assert client.tokens.counts == RenewalCounts(renewed=1)
    protected.authority.refuses = (500, "server_error")
    await outlived(protected)
    with pytest.raises(NotSent):
        await protected.status(client)
    assert client.tokens.counts == RenewalCounts(renewed=1, failed=1)
    client.tokens._renewals.until = 0.0  # the wait is over
    protected.authority.refuses = (400, "invalid_grant")
    with pytest.raises(LoginNeeded):
        await protected.status(client)
    assert client.tokens.counts == RenewalCounts(renewed=1, failed=1, login_needed=1)
    assert [form["grant_type"] for form in protected.authority.forms[1:]] == ["refresh_token"] * 3
    assert client.tokens.expires_at is None


async def test_a_renewal_by_another_process_is_not_counted(protected: Any) -> None:
    await protected.log_in()
    one, two = protected.login_client(), protected.login_client()
    for client in (one, two):
        await protected.status(client)
    await outlived(protected)
    await asyncio.gather(protected.status(one), protected.status(two))
    assert one.tokens.counts.renewed + two.tokens.counts.renewed == 1
    assert len(protected.authority.forms) == 2


async def test_a_renewal_in_progress_may_end_before_the_gateway_stops(protected: Any) -> None:
    await protected.log_in()
    client = protected.login_client()
    await protected.status(client)
    await outlived(protected)
    protected.authority.delay = 0.3
    call = asyncio.create_task(protected.status(client))
    async with asyncio.timeout(20):
        while client.login._task is None:
            await asyncio.sleep(0.01)
    await client.close()
    await asyncio.gather(call, return_exceptions=True)
    assert protected.logins.of(GATEWAY, "fixture").refresh_token == "refresh-2", "the rotated token is stored"
