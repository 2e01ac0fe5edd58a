"""A hosted tracker that needs a login: a certified authorization server, and a browser in which a person logs in.

The browser is Chromium, driven over its DevTools protocol. Without it on this machine, these tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

HERE = Path(__file__).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
LIFE = 6
"""Seconds that an access token lives."""
STEPS = (
    (
        "document.querySelector('input[name=login]')",
        "document.querySelector('input[name=login]').value = 'ada';"
        "document.querySelector('input[name=password]').value = 'any';"
        "document.querySelector('button[type=submit]').click()",
    ),
    (
        "[...document.querySelectorAll('button')].find(it => it.textContent === 'Continue')",
        "document.querySelector('button[type=submit]').click()",
    ),
)
"""What the person does on the pages of the authorization server: what to wait for, and what to do then."""


class Tracker:
    """The tracker, as a child process of the test."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"

    def done(self) -> list[tuple[str, str]]:
        """What its authorization server has done, with the grant."""
        with urllib.request.urlopen(f"{self.origin}/grants", timeout=10) as answer:
            return [(event, grant) for event, grant in json.load(answer)]


@pytest.fixture
def tracker(launcher: Any, tools: Any, wait_for: Callable[..., None]) -> Tracker:
    found = Tracker(launcher.free_port())
    port = found.origin.rpartition(":")[2]
    launcher.processes.start("tracker", str(tools.node), str(HERE / "servers" / "oidc.mjs"), port, str(LIFE))

    def listens() -> bool:
        try:
            return found.done() == []
        except OSError:
            return False

    wait_for(listens, "the tracker listens")
    return found


async def page_of(port: int) -> str:
    """The address of the DevTools of the browser's only page."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [it for it in await answer.json() if it["type"] == "page"]
            except aiohttp.ClientError:
                pages = []
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.1)


async def click_through(port: int) -> str:
    """Log in and consent in the browser. Returns the text of the page at which it ends."""
    async with (
        asyncio.timeout(60),
        aiohttp.ClientSession() as session,
        session.ws_connect(await page_of(port)) as devtools,
    ):
        number = 0

        async def evaluate(expression: str) -> Any:
            nonlocal number
            number += 1
            params = {"expression": expression}
            await devtools.send_json({"id": number, "method": "Runtime.evaluate", "params": params})
            while (answer := await devtools.receive_json()).get("id") != number:
                pass
            return answer.get("result", {}).get("result", {}).get("value")

        async def until(expression: str) -> None:
            while not await evaluate(f"document.readyState === 'complete' && !!({expression})"):
                await asyncio.sleep(0.1)

        for there, action in STEPS:
            await until(there)
            await evaluate(action)
        await until("location.pathname === '/callback'")
        return str(await evaluate("document.body.innerText"))


def log_in(launcher: Any, config: Path, tmp_path: Path) -> tuple[str, str]:
    """Run `rad mcp proxy login`, and click through in a browser. Its output, and the last page's text."""
    command = [str(launcher.rad), "mcp", "proxy", "login", "tracker", "--no-browser", "--config", str(config)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    port = launcher.free_port()
    browser = launcher.processes.start(
        "browser",
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--remote-debugging-port={port}",
        child.stdout.readline().strip(),
    )
    try:
        page = asyncio.run(click_through(port))
        out, _ = child.communicate(timeout=60)
    finally:
        browser.terminate()
        browser.wait(20)
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
    assert "the running gateway uses it: 1 tool" in out
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

    wait_for(used_and_renewed, "the token is renewed three times", 60)
    assert not any(event == "grant.error" for event, _ in tracker.done()), "no refresh token is used twice"
    gateway.process.terminate()
    gateway.process.wait(30)
    again = launcher.start(config, port, "again")
    assert again.rad("call", "search", "--arg", "query=rust")["content"][0]["text"] == "no issue has rust"

    command = [str(launcher.rad), "mcp", "proxy", "logout", "tracker", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "logged out of tracker\n", "")
    assert ("grant.revoked", "") in tracker.done()
    wait_for(lambda: again.upstream("tracker")["state"] == "needs_login", "it needs a login again")
    log = launcher.processes.log("gateway") + launcher.processes.log("again")
    assert "Bearer" not in log
    assert not list((config.parent).glob("*.tmp"))
