"""`rad mcp proxy logout`: what it revokes, and what is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway_core.upstream.auth.logins import Client, Login, Logins

pytestmark = pytest.mark.timeout(240)  # each test runs many commands


def test_a_logout_revokes_the_tokens_and_deletes_the_login(
    with_tracker: Path, rad: Any, log_in: Any, tracker: Any
) -> None:
    assert log_in()[0] == 0
    found = rad("logout", "tracker")
    assert (found.returncode, found.stdout, found.stderr) == (0, "logged out of tracker\n", "")
    assert tracker.revoked == ["hidden-refresh-1", "hidden-access-1"]
    assert "needs a login, there is no login" in rad("check", "--connect").stdout
    again = rad("logout", "tracker")
    assert (again.returncode, again.stderr) == (1, "error: there is no login at upstream tracker\n")


def test_a_running_gateway_notices_the_logout(
    with_tracker: Path, rad: Any, log_in: Any, spawn: Any, wait_for_upstream: Any
) -> None:
    assert log_in()[0] == 0
    spawn("start")
    wait_for_upstream("tracker")
    assert rad("logout", "tracker").returncode == 0
    wait_for_upstream("tracker", "needs_login")


def test_a_login_is_deleted_even_if_the_server_does_not_answer(
    with_tracker: Path, rad: Any, log_in: Any, tracker: Any
) -> None:
    assert log_in()[0] == 0
    config = with_tracker / ".radium" / "mcp-proxy.toml"
    config.write_text(config.read_text().replace(tracker.origin, "http://127.0.0.1:1"))
    found = rad("logout", "tracker")
    assert found.returncode == 0
    assert found.stderr.startswith("warning: the tokens were deleted, but not revoked: ")
    assert rad("logout", "tracker").returncode == 1


@pytest.fixture
def users(with_tracker: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The logins of three users, two of whom have the same name."""
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    config = with_tracker / ".radium" / "mcp-proxy.toml"
    config.write_text(config.read_text().replace('"authorization_code"', '"authorization_code"\nidentity = "user"'))

    async def add() -> None:
        store = Logins(config.with_name("mcp-proxy.logins"))
        for identity in ("ada|test", "bob|test", "bob|other"):
            token = f"hidden {identity}".replace(" ", "-")
            client = Client("c", "registered", method="none")
            url, issuer = f"{tracker.origin}/mcp", tracker.origin
            login = Login(1.0, url, issuer, client, access_token=token, expires_at=None)
            await store.change(identity, "tracker", lambda _, login=login: login)

    asyncio.run(add())
    return config


def test_one_user_loses_exactly_its_own_login(users: Path, rad: Any, tracker: Any) -> None:
    done = rad("logout", "tracker", "--as", "ada")
    assert (done.returncode, done.stdout) == (0, "logged out of tracker as ada|test\n"), done.stderr
    assert tracker.revoked == ["hidden-ada|test"]
    again = rad("logout", "tracker", "--as", "ada")
    assert again.returncode == 1
    assert "there is no login of ada at upstream tracker" in again.stderr
    assert "users with a login: bob|other, bob|test; end one with --as" in again.stderr
    assert "there is no login at upstream tracker\n  users with a login" in rad("logout", "tracker").stderr


def test_a_name_of_two_users_is_not_enough(users: Path, rad: Any, tracker: Any) -> None:
    refused = rad("logout", "tracker", "--as", "bob")
    assert refused.returncode == 1
    assert "several users have this subject: bob|other, bob|test; give one of these" in refused.stderr
    assert rad("logout", "tracker", "--as", "bob|other").returncode == 0
    assert tracker.revoked == ["hidden-bob|other"]
    shown = rad("check", "--connect").stdout
    assert "2 users logged in" in shown
