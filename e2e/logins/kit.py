"""A tracker that needs a login, and a browser in which a person logs in.

The tracker is `servers/oidc.mjs`. The browser is Chromium, driven over its DevTools protocol.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).resolve().parents[1]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
STEPS = (
    (
        "document.querySelector('input[name=login]')",
        "document.querySelector('input[name=login]').value = '{person}';"
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


def started_tracker(launcher: Any, tools: Any, wait_for: Callable[..., None], seconds: int) -> Tracker:
    """A tracker whose access tokens live for so many seconds."""
    found = Tracker(launcher.free_port())
    port = found.origin.rpartition(":")[2]
    launcher.processes.start("tracker", str(tools.node), str(HERE / "servers" / "oidc.mjs"), port, str(seconds))

    def listens() -> bool:
        try:
            return found.done() == []
        except OSError:
            return False

    wait_for(listens, "the tracker listens")
    return found


def started_browser(launcher: Any, profile: Path, port: int, url: str = "about:blank") -> Any:
    """A browser whose DevTools listen on `port`."""
    return launcher.processes.start(
        "browser",
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
        "--no-proxy-server",
        f"--user-data-dir={profile}",
        f"--remote-debugging-port={port}",
        url,
    )


class Page:
    """The only page of a browser."""

    def __init__(self, devtools: Any) -> None:
        self._devtools = devtools
        self._number = 0

    async def send(self, method: str, **params: Any) -> Any:
        self._number += 1
        await self._devtools.send_json({"id": self._number, "method": method, "params": params})
        while (answer := await self._devtools.receive_json()).get("id") != self._number:
            pass
        return answer.get("result", {})

    async def evaluate(self, expression: str) -> Any:
        return (await self.send("Runtime.evaluate", expression=expression)).get("result", {}).get("value")

    async def until(self, expression: str) -> None:
        while not await self.evaluate(f"document.readyState === 'complete' && !!({expression})"):
            await asyncio.sleep(0.1)

    async def log_in(self, person: str, callback: str) -> str:
        """Log in and consent at the authorization server. The text of the page at the path `callback`."""
        for there, action in STEPS:
            await self.until(there)
            await self.evaluate(action.replace("{person}", person))
        await self.until(f"location.pathname === '{callback}'")
        return str(await self.evaluate("document.body.innerText"))


@asynccontextmanager
async def page_of(port: int) -> AsyncIterator[Page]:
    """The page of the browser whose DevTools listen on `port`."""
    async with asyncio.timeout(90), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    pages = [it for it in await answer.json() if it["type"] == "page"]
            except aiohttp.ClientError:
                pages = []
            if pages:
                break
            await asyncio.sleep(0.1)
        async with session.ws_connect(str(pages[0]["webSocketDebuggerUrl"])) as devtools:
            yield Page(devtools)
