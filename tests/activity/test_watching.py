"""How long calls are recorded after a reader has looked at them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import gateway_core
from gateway_core.activity.watching import BROWSER_PATIENCE, PATIENCE, Watching
from gateway_core.control.access import PAGE_KEY
from tests.activity.conftest import Stand, eventually

pytestmark = pytest.mark.timeout(180)


async def browser(stand: Stand) -> dict[str, str]:
    """The headers of a browser that has entered the dashboard."""
    made = await stand.ask("/admin/browser-logins", "POST", body={"right": "read"})
    async with stand.http.get(stand.gateway.control.address + made["path"], allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        page_key = answer.headers["Location"].partition("#key=")[2]
    return {"Cookie": cookie, PAGE_KEY: page_key, "Sec-Fetch-Site": "same-origin"}


def session(headers: dict[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), headers=headers)


async def looks(stand: Stand, headers: dict[str, str]) -> Any:
    url = f"{stand.gateway.control.address}/admin/calls/recent"
    async with session(headers) as http, http.get(url) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_recording_ends_with_the_last_stream_of_a_dashboard_that_has_looked(stand: Stand) -> None:
    await stand.start()
    headers = await browser(stand)
    url = f"{stand.gateway.control.address}/admin/events"
    async with session(headers) as http, http.get(url) as one, http.get(url) as other:
        await one.content.readline()
        await other.content.readline()
        assert (await looks(stand, headers))["recording"] is True
        other.close()
        await looks(stand, headers)
        assert stand.gateway.activity.recording, "the other tab still watches"

    async def is_off() -> bool:
        return not stand.gateway.activity.recording

    await eventually(is_off)


async def test_the_end_of_a_dashboard_does_not_end_the_recording_for_a_script(stand: Stand) -> None:
    await stand.start()
    headers = await browser(stand)
    watching: Watching = stand.gateway.activity._watching
    url = f"{stand.gateway.control.address}/admin/events"
    async with session(headers) as http, http.get(url) as stream:
        await stream.content.readline()
        await looks(stand, headers)
        await stand.ask("/admin/calls/recent")

    async def has_left() -> bool:
        return not watching._streams

    await eventually(has_left)
    assert watching.on
    assert list(watching._looks) == [""]


async def test_a_look_of_a_script_counts_for_ten_minutes_and_one_of_a_browser_for_seconds() -> None:
    watching = Watching()
    watching.look()
    watching.look("tab")
    now = watching._looks[""]._loop.time()  # type: ignore[attr-defined]
    left = {browser: timer.when() - now for browser, timer in watching._looks.items()}
    assert PATIENCE - 5 < left[""] <= PATIENCE
    assert BROWSER_PATIENCE - 5 < left["tab"] <= BROWSER_PATIENCE
    assert BROWSER_PATIENCE < PATIENCE
    watching.stop_waiting()
    assert watching._looks == {}


def test_a_dashboard_without_a_stream_looks_again_before_its_last_look_is_forgotten() -> None:
    pages = Path(gateway_core.__file__).parent / "dashboard"
    asked = [
        line for path in pages.glob("[lp]*/*.js") for line in path.read_text().splitlines() if "/admin/calls/" in line
    ]
    every = [int(number.replace("_", "")) for line in asked for number in re.findall(r"every: [^}]*?([\d_]+) }", line)]
    assert len(every) >= 4
    assert max(every) / 1000 + 5 <= BROWSER_PATIENCE, "the answer takes time as well"
