"""`rad mcp proxy logout`: what it revokes, and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
    with_tracker: Path, rad: Any, log_in: Any, spawn: Any, wait_for: Any
) -> None:
    def state() -> str:
        done = rad("status", "--json")
        upstreams = json.loads(done.stdout)["upstreams"] if done.returncode == 0 else []
        return next((one["state"] for one in upstreams if one["name"] == "tracker"), "")

    assert log_in()[0] == 0
    spawn("start")
    wait_for(lambda: state() == "healthy", 40)
    assert rad("logout", "tracker").returncode == 0
    wait_for(lambda: state() == "needs_login")


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
