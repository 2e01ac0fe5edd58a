"""A hosted tracker that needs a login: a certified authorization server, and a browser in which a person logs in.

The browser is Chromium, driven over its DevTools protocol. Without it on this machine, these tests are skipped.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent / "logins")]

from kit import BROWSER, Tracker, page_of, started_browser, started_tracker  # noqa: E402 - found on the path above

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
LIFE = 6
"""Seconds that an access token lives."""


@pytest.fixture
def tracker(launcher: Any, tools: Any, wait_for: Callable[..., None]) -> Tracker:
    return started_tracker(launcher, tools, wait_for, LIFE)


async def click_through(port: int) -> str:
    """Log in and consent in the browser. Returns the text of the page at which it ends."""
    async with page_of(port) as page:
        return await page.log_in("ada", "/callback")


def log_in(launcher: Any, config: Path, tmp_path: Path) -> tuple[str, str]:
    """Run `rad mcp proxy login`, and click through in a browser. Its output, and the last page's text."""
    command = [str(launcher.rad), "mcp", "proxy", "login", "tracker", "--no-browser", "--config", str(config)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port = launcher.free_port()
    address = child.stdout.readline().strip()
    browser = started_browser(launcher, tmp_path / "profile", port, address)
    try:
        page = asyncio.run(click_through(port))
        out, _ = child.communicate(timeout=60)
    finally:
        browser.terminate()
        browser.wait(60)
        if child.poll() is None:
            child.kill()
            child.wait()
    assert child.returncode == 0, out
    return out, page


def test_from_a_login_in_a_browser_over_rotation_to_the_logout(
    launcher: Any, tracker: Tracker, tmp_path: Path, wait_for: Callable[..., None]
) -> None:
    auth = {"grant": "authorization_code"}
    upstreams = [{"name": "tracker", "transport": "http", "url": f"{tracker.origin}/mcp", "auth": auth}]
    port = launcher.free_port()
    config = launcher.write({"port": port, "upstreams": upstreams})
    gateway = launcher.start(config, port, ready="/healthz")
    wait_for(lambda: gateway.upstream("tracker")["state"] == "needs_login", "it waits for the login")

    out, page = log_in(launcher, config, tmp_path)
    assert "You are logged in" in page
    assert f"logged in to tracker at {tracker.origin}" in out
    assert "the running gateway uses it: 2 tools" in out
    assert tracker.done()[:2] == [("registration_create.success", ""), ("grant.success", "authorization_code")]
    assert gateway.rad("call", "search", "--arg", "query=rust")["content"][0]["text"] == "no issue has rust"
    login = gateway.upstream("tracker")["login"]
    assert (login["issuer"], login["renewable"]) == (tracker.origin, True)
    assert "issues:read" in login["scopes"]

    def renewals() -> int:
        return tracker.done().count(("grant.success", "refresh_token"))

    def used_and_renewed() -> bool:
        text = gateway.rad("call", "search", "--arg", "query=rust")["content"][0]["text"]
        return text == "no issue has rust" and renewals() >= 3

    wait_for(used_and_renewed, "the token is renewed three times", 200)
    assert not any(event == "grant.error" for event, _ in tracker.done()), "no refresh token is used twice"
    gateway.process.terminate()
    gateway.process.wait(60)
    again = launcher.start(config, port, "again")
    assert again.rad("call", "search", "--arg", "query=rust")["content"][0]["text"] == "no issue has rust"

    command = [str(launcher.rad), "mcp", "proxy", "logout", "tracker", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "logged out of tracker\n", "")
    wait_for(lambda: ("grant.revoked", "") in tracker.done(), "the login is revoked")
    wait_for(lambda: again.upstream("tracker")["state"] == "needs_login", "it needs a login again")
    log = launcher.processes.log("gateway") + launcher.processes.log("again")
    assert "Bearer" not in log
    assert not list((config.parent).glob("*.tmp"))
