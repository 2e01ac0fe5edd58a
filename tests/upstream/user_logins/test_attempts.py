"""Attempts to log in: who shares one, how each ends, and what a bad authorization server does to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from gateway_core.api import Principal
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.config.auth import AuthConfig
from gateway_core.errors import OVERLOADED, RpcError
from gateway_core.upstream.auth.code_flow import NotOurs
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.logins import Login, Logins
from gateway_core.upstream.user_logins import attempts as module
from gateway_core.upstream.user_logins.attempt import LoginAttempt
from gateway_core.upstream.user_logins.attempts import LoginAttempts
from tests.login_kit import Tracker
from tests.user_login_kit import tracker_served

ADA, BOB = (Principal.proven(name, issuer="test") for name in ("ada", "bob"))
BASE = "https://gateway.example.com"


@pytest.fixture
async def tracker() -> AsyncIterator[Tracker]:
    async with tracker_served() as found:
        yield found


@pytest.fixture
def logins() -> Logins:
    return Logins()


@pytest.fixture
async def attempts(tracker: Tracker, logins: Logins) -> AsyncIterator[LoginAttempts]:
    found = LoginAttempts(LimitsConfig(), logins, lambda: BASE)
    found.serve([upstream(tracker)])
    yield found
    await found.close()


def upstream(tracker: Tracker, name: str = "tracker") -> UpstreamConfig:
    auth = AuthConfig(grant="authorization_code", identity="user")
    return UpstreamConfig(name=name, transport="http", url=f"{tracker.origin}/mcp", auth=auth)


def page_of(attempt: LoginAttempt) -> str:
    return attempt.url.rpartition("/")[2]


def answer_to(address: URL, tracker: Tracker, **changed: Any) -> dict[str, list[str]]:
    """The query with which the browser comes back."""
    tracker.codes["code"] = address.query["code_challenge"]
    found = {"state": address.query["state"], "iss": tracker.origin, "code": "code", **changed}
    return {name: [value] for name, value in found.items() if value is not None}


async def logged_in(attempts: LoginAttempts, attempt: LoginAttempt, tracker: Tracker, **options: Any) -> None:
    address = await attempts.begin(page_of(attempt))
    await attempts.finish(answer_to(address, tracker), proven=options.get("proven", True))


async def test_a_principal_has_one_attempt_at_an_upstream(attempts: LoginAttempts) -> None:
    first = attempts.of(ADA, "tracker")
    assert attempts.of(ADA, "tracker") is first
    assert attempts.of(BOB, "tracker") is not first
    assert first.url.startswith(f"{BASE}/oauth/start/")
    assert len(page_of(first)) >= 43
    assert attempts.at(page_of(first)) is first
    assert attempts.at("other") is None


async def test_a_login_is_that_of_the_principal_alone(
    attempts: LoginAttempts, tracker: Tracker, logins: Logins
) -> None:
    attempt = attempts.of(ADA, "tracker")
    address = await attempts.begin(page_of(attempt))
    assert address.query["redirect_uri"] == f"{BASE}/oauth/callback"
    assert (address.query["code_challenge_method"], address.query["resource"]) == ("S256", f"{tracker.origin}/mcp")
    await attempts.finish(answer_to(address, tracker), proven=True)
    assert attempt.step == "complete"
    assert set(logins.at("tracker")) == {ADA.id}
    assert attempts.at(page_of(attempt)) is None, "the address is of no more use"
    with pytest.raises(NotOurs):
        await attempts.finish(answer_to(address, tracker), proven=True)


async def test_a_registered_client_serves_all_principals(attempts: LoginAttempts, tracker: Tracker) -> None:
    for principal in (ADA, BOB):
        await logged_in(attempts, attempts.of(principal, "tracker"), tracker)
    assert tracker.registered == 1


async def test_attempts_that_come_to_nothing_register_no_further_clients(
    attempts: LoginAttempts, tracker: Tracker
) -> None:
    for principal in (ADA, BOB):
        for _ in range(3):
            await attempts.begin(page_of(attempts.of(principal, "tracker")))
    assert tracker.registered == 1
    address = await attempts.begin(page_of(attempts.of(ADA, "tracker")))
    with pytest.raises(Refused):
        await attempts.finish(answer_to(address, tracker, code="another"), proven=True)
    await attempts.begin(page_of(attempts.of(ADA, "tracker")))
    assert tracker.registered == 2, "the server may have forgotten the client"


async def test_an_unproven_login_waits_for_its_code(attempts: LoginAttempts, tracker: Tracker, logins: Logins) -> None:
    attempt = attempts.of(ADA, "tracker")
    await logged_in(attempts, attempt, tracker, proven=False)
    assert (attempt.step, logins.at("tracker")) == ("unconfirmed", {})
    assert not await attempts.confirm(attempt, "BBBB-BBBB")
    assert await attempts.confirm(attempt, f" {attempt.code.lower().replace('-', ' ')}")
    assert attempt.step == "complete"
    assert set(logins.at("tracker")) == {ADA.id}


async def test_a_login_is_stored_although_the_call_that_brings_the_code_is_cancelled(
    attempts: LoginAttempts, tracker: Tracker, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = attempts.of(ADA, "tracker")
    await logged_in(attempts, attempt, tracker, proven=False)
    storing, change = asyncio.Event(), logins.change

    async def slow(*given: Any) -> Login | None:
        storing.set()
        await asyncio.sleep(0.1)
        return await change(*given)

    monkeypatch.setattr(logins, "change", slow)
    call = asyncio.ensure_future(attempts.confirm(attempt, attempt.code))
    await storing.wait()
    call.cancel()
    async with asyncio.timeout(20):
        await attempt.leave("unconfirmed")
    assert call.cancelled()
    assert (attempt.step, set(logins.at("tracker"))) == ("complete", {ADA.id})


async def test_wrong_codes_end_an_attempt_and_its_tokens(attempts: LoginAttempts, tracker: Tracker) -> None:
    attempt = attempts.of(ADA, "tracker")
    await logged_in(attempts, attempt, tracker, proven=False)
    code = attempt.code
    for _ in range(module.MAX_WRONG_CODES):
        assert not await attempts.confirm(attempt, "")
    assert (attempt.step, attempts.failure(attempt.number)) == ("failed", "5 wrong codes were given")
    assert not await attempts.confirm(attempt, code)
    async with asyncio.timeout(20):
        while len(tracker.revoked) < 2:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": "https://evil.example"}, "from another authorization server (iss)"),
        ({"error": "access_denied", "code": None}, "refused (access_denied)"),
        ({"code": None}, "sent no code"),
        ({"code": "another"}, "the code was not exchanged for a token: HTTP 400 (invalid_grant)"),
    ],
)
async def test_a_bad_answer_fails_the_attempt(
    attempts: LoginAttempts, tracker: Tracker, logins: Logins, changed: Any, reason: str
) -> None:
    attempt = attempts.of(ADA, "tracker")
    address = await attempts.begin(page_of(attempt))
    with pytest.raises(Refused) as refused:
        await attempts.finish(answer_to(address, tracker, **changed), proven=True)
    assert reason in str(refused.value)
    assert attempt.step == "failed"
    assert reason in attempts.failure(attempt.number)
    assert logins.at("tracker") == {}


async def test_an_answer_with_an_unknown_state_changes_nothing(attempts: LoginAttempts, tracker: Tracker) -> None:
    attempt = attempts.of(ADA, "tracker")
    address = await attempts.begin(page_of(attempt))
    for query in ({}, {"state": ["x"]}, {"state": [address.query["state"]] * 2}):
        with pytest.raises(NotOurs):
            await attempts.finish(query, proven=True)
    assert attempt.step == "open"


async def test_a_browser_that_goes_on_again_makes_the_answer_before_invalid(
    attempts: LoginAttempts, tracker: Tracker
) -> None:
    attempt = attempts.of(ADA, "tracker")
    first = await attempts.begin(page_of(attempt))
    second = await attempts.begin(page_of(attempt))
    with pytest.raises(NotOurs):
        await attempts.finish(answer_to(first, tracker), proven=True)
    await attempts.finish(answer_to(second, tracker), proven=True)
    assert attempt.step == "complete"


async def test_a_browser_cannot_go_on_again_and_again(attempts: LoginAttempts) -> None:
    attempt = attempts.of(ADA, "tracker")
    for _ in range(module.MAX_BEGINS):
        await attempts.begin(page_of(attempt))
    with pytest.raises(Refused, match="it was tried 8 times"):
        await attempts.begin(page_of(attempt))
    assert attempt.step == "failed"


async def test_an_attempt_lapses(attempts: LoginAttempts, tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFE", 0.05)
    attempt = attempts.of(ADA, "tracker")
    address = await attempts.begin(page_of(attempt))
    async with asyncio.timeout(20):
        await attempt.leave("open")
    assert attempt.step == "failed"
    with pytest.raises(NotOurs):
        await attempts.finish(answer_to(address, tracker), proven=True)
    assert attempts.of(ADA, "tracker") is not attempt


@pytest.mark.parametrize("proven", [True, False])
@pytest.mark.parametrize("meanwhile", ["lapses", "reload", "end"])
async def test_a_login_that_is_being_stored_completes_its_attempt(
    attempts: LoginAttempts,
    tracker: Tracker,
    logins: Logins,
    monkeypatch: pytest.MonkeyPatch,
    proven: bool,
    meanwhile: str,
) -> None:
    """Whatever else would end the attempt while its file is written."""
    if meanwhile == "lapses":
        monkeypatch.setattr(module, "LIFE", 2.0)
    storing, stored, change = asyncio.Event(), asyncio.Event(), logins.change

    async def slow(*given: Any) -> Login | None:
        storing.set()
        await stored.wait()
        return await change(*given)

    monkeypatch.setattr(logins, "change", slow)
    attempt = attempts.of(ADA, "tracker")
    login: asyncio.Future[Any] = asyncio.ensure_future(logged_in(attempts, attempt, tracker, proven=proven))
    if not proven:
        await login
        login = asyncio.ensure_future(attempts.confirm(attempt, attempt.code))
    await storing.wait()
    if meanwhile == "reload":
        attempts.serve([])
    elif meanwhile == "lapses":
        await asyncio.sleep(2.2)
    closing = asyncio.ensure_future(attempts.close()) if meanwhile == "end" else None
    await asyncio.sleep(0)
    stored.set()
    await login
    if closing is not None:
        await closing
    assert (attempt.step, attempts.failure(attempt.number)) == ("complete", "")
    assert set(logins.at("tracker")) == {ADA.id}


async def test_an_attempt_ends_although_its_login_cannot_be_kept(
    attempts: LoginAttempts, tracker: Tracker, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr(logins, "change", broken)
    attempt = attempts.of(ADA, "tracker")
    with pytest.raises(ValueError):  # noqa: PT011
        await logged_in(attempts, attempt, tracker)
    assert (attempt.step, attempts.failure(attempt.number)) == ("failed", "the gateway could not keep the login")


async def test_attempts_are_bounded(attempts: LoginAttempts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ATTEMPTS", 1)
    known = attempts.of(ADA, "tracker")
    with pytest.raises(RpcError) as refused:
        attempts.of(BOB, "tracker")
    assert refused.value.code == OVERLOADED
    assert attempts.of(ADA, "tracker") is known


async def test_an_upstream_that_a_reload_removed_takes_no_logins(attempts: LoginAttempts) -> None:
    attempts.serve([])
    with pytest.raises(RpcError, match="takes no logins of users any more"):
        attempts.of(ADA, "tracker")


@pytest.mark.parametrize("change", ["removed", "changed"])
async def test_a_reload_ends_attempts_at_upstreams_that_it_changes(
    attempts: LoginAttempts, tracker: Tracker, change: str
) -> None:
    attempts.serve([upstream(tracker), upstream(tracker, "other")])
    attempt, other = attempts.of(ADA, "tracker"), attempts.of(ADA, "other")
    changed = upstream(tracker).model_copy(update={"url": f"{tracker.origin}/moved"})
    attempts.serve([*([changed] if change == "changed" else []), upstream(tracker, "other")])
    assert attempt.step == "failed"
    assert "was changed" in attempts.failure(attempt.number)
    assert attempts.at(page_of(attempt)) is None
    assert attempts.of(ADA, "other") is other
    if change == "changed":
        assert attempts.of(ADA, "tracker").upstream is changed


@pytest.mark.parametrize("how", ["gone", "slow", "another issuer", "no pkce", "inside"])
async def test_a_bad_authorization_server_fails_one_attempt_only(
    attempts: LoginAttempts, tracker: Tracker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    from aiohttp import web

    async def hang(_: Any) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    async def metadata(_: Any) -> web.StreamResponse:
        found = {
            "issuer": "https://evil.example" if how == "another issuer" else tracker.origin,
            "authorization_endpoint": "http://10.0.0.1/authorize" if how == "inside" else f"{tracker.origin}/authorize",
            "token_endpoint": f"{tracker.origin}/token",
            "registration_endpoint": f"{tracker.origin}/register",
        }
        return web.json_response(found | ({} if how == "no pkce" else {"code_challenge_methods_supported": ["S256"]}))

    attempt, other = attempts.of(ADA, "tracker"), attempts.of(BOB, "tracker")
    before = tracker._metadata
    if how == "gone":
        attempts.serve(
            [upstream(tracker), upstream(tracker, "gone").model_copy(update={"url": "http://127.0.0.1:9/mcp"})]
        )
        attempt = attempts.of(ADA, "gone")
    else:
        monkeypatch.setattr(tracker, "_metadata", hang if how == "slow" else metadata)
    monkeypatch.setattr(module, "BEGIN", 1.0)
    with pytest.raises(Refused) as refused:
        await attempts.begin(page_of(attempt))
    assert attempt.upstream.name in str(refused.value)
    assert (attempt.step, other.step) == ("failed", "open")
    monkeypatch.setattr(tracker, "_metadata", before)
    monkeypatch.setattr(module, "BEGIN", 30.0)
    await logged_in(attempts, other, tracker)
    assert other.step == "complete"


async def test_a_file_that_cannot_be_written_costs_the_restart_only(
    tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    store = Logins(tmp_path / "missing" / "logins")
    attempts = LoginAttempts(LimitsConfig(), store, lambda: BASE)
    attempts.serve([upstream(tracker)])
    attempt = attempts.of(ADA, "tracker")
    await logged_in(attempts, attempt, tracker)
    assert attempt.step == "complete"
    assert isinstance(store.of(ADA.id, "tracker"), Login)
    await attempts.close()


async def test_the_end_of_the_gateway_ends_all_attempts(attempts: LoginAttempts) -> None:
    attempt = attempts.of(ADA, "tracker")
    await attempts.close()
    assert (attempt.step, attempt.reason) == ("failed", "the gateway is stopping")
