"""What plugins are told about upstreams, by the webhook plugin of `docs/hooks.md` and by an observer in a gateway."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway_core import Event, UpstreamChanged, hookimpl
from gateway_core.api import UpstreamState
from gateway_core.hooks import LoadedPlugin
from gateway_core.testing import configured
from tests.generations.conftest import Stand, served
from tests.ports import free_port

pytestmark = pytest.mark.timeout(180)
PAGE = Path(__file__).parents[2] / "docs" / "hooks.md"


class Diary:
    """Keeps what it is told as (upstream, state before, state)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.events: list[UpstreamChanged] = []
        self.open = False

    async def __aenter__(self) -> None:
        self.open = True

    async def __aexit__(self, *error: object) -> None:
        self.open = False

    @hookimpl
    def observe(self, event: Event) -> None:
        if isinstance(event, UpstreamChanged):
            assert self.open
            self.told.append((event.upstream, event.before, event.state))
            self.events.append(event)

    async def has(self, count: int) -> list[tuple[str, str, str]]:
        """Wait for so many changes; returns those since the last look."""
        async with asyncio.timeout(60):
            while len(self.told) < count:
                await asyncio.sleep(0.01)
        found = self.told[:]
        self.told.clear()
        return found


@pytest.fixture
def diary(monkeypatch: pytest.MonkeyPatch) -> Diary:
    """An observer in every configuration, which no distribution has."""
    made = Diary()
    real = importlib.import_module("gateway_core.hooks.loader").load

    def load(*given: Any, **more: Any) -> tuple[LoadedPlugin, ...]:
        return (configured(made, name="diary"), *real(*given, **more))

    monkeypatch.setattr("gateway_core.hooks.loader.load", load)
    return made


def http(name: str, port: int, **settings: Any) -> dict[str, Any]:
    return {"name": name, "transport": "http", "url": f"http://127.0.0.1:{port}/mcp", **settings}


Listen = Callable[[str, Callable[[web.Request], Awaitable[web.Response]]], Awaitable[int]]


@pytest.fixture
async def listen() -> AsyncIterator[Listen]:
    """`listen(path, handler)` answers POST by a handler; returns its port."""
    runners: list[web.AppRunner] = []

    async def begin(path: str, handler: Callable[[web.Request], Awaitable[web.Response]]) -> int:
        app = web.Application()
        app.router.add_post(path, handler)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port: int = runner.addresses[0][1]
        return port

    yield begin
    for runner in runners:
        await runner.cleanup()


async def refuse(request: web.Request) -> web.Response:
    return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})


async def test_plugins_are_told_every_state_that_an_upstream_enters(stand: Stand, diary: Diary, listen: Listen) -> None:
    lost = http("lost", free_port())
    login = http("private", await listen("/mcp", refuse), auth={"grant": "authorization_code"})
    await stand.start(served("one"), lost, login)
    assert sorted(await diary.has(3)) == [
        ("lost", "connecting", "down"),
        ("one", "connecting", "healthy"),
        ("private", "connecting", "needs_login"),
    ]
    reasons = {event.upstream: event.reason for event in diary.events}
    assert reasons["one"] == ""
    assert "cannot connect" in reasons["lost"]
    assert "login" in reasons["private"]
    (one, *_) = stand.gateway.pool.upstreams
    assert stand.gateway.pool.drain("one", drained=True)
    assert stand.gateway.pool.drain("one", drained=False)
    assert await diary.has(2) == [("one", "healthy", "draining"), ("one", "draining", "healthy")]
    assert diary.events[-2].reason == "an operator keeps new calls from it"
    for _ in range(5):
        one.status.failed("reset by the server")
        one.signals.failed("reset by the server", sent=True)
    assert await diary.has(1) == [("one", "healthy", "ejected")]
    assert diary.events[-1].reason == "reset by the server"
    assert diary.events[-1].at >= diary.events[0].at > 1_700_000_000
    diary.told.clear()
    await stand.gateway.stop()
    assert ("one", "ejected", "stopped") in diary.told, "the plugins exit later"
    assert not diary.open


async def test_a_reload_tells_what_is_different_and_nothing_else(stand: Stand, diary: Diary) -> None:
    await stand.start(served("kept"), served("changed"), served("broken"), served("removed"))
    await diary.has(4)
    await stand.reload(served("kept"), served("changed", "more"), http("broken", free_port()), served("added"))
    assert sorted(await diary.has(3)) == [
        ("added", "connecting", "healthy"),
        ("broken", "healthy", "down"),
        ("removed", "healthy", "stopped"),
    ]
    assert {event.generation for event in diary.events} == {1, 2}
    await stand.settled()
    stand.gateway.pool.drain("changed", drained=True)
    assert await diary.has(1) == [("changed", "healthy", "draining")], "nothing about those that were closed"


# The plugin of the page


@pytest.fixture
def alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The plugin `upstream_alarm` of the page, installed; returns its source."""
    (source,) = (
        block
        for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        if "class UpstreamAlarm" in block
    )
    site = tmp_path / "site"
    info = site / "gateway_upstream_alarm-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "gateway_upstream_alarm.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-upstream-alarm\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gateway_core]\nupstream_alarm = gateway_upstream_alarm:UpstreamAlarm\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield source
    sys.modules.pop("gateway_upstream_alarm", None)


Hook = tuple[str, list[dict[str, Any]], Callable[[int], Awaitable[None]]]


@pytest.fixture
async def webhook(listen: Listen) -> Hook:
    """A webhook: its address, the messages that it got, and a way to wait for a number of them."""
    got: list[dict[str, Any]] = []
    came = asyncio.Condition()

    async def take(request: web.Request) -> web.Response:
        async with came:
            got.append(await request.json())
            came.notify_all()
        return web.Response()

    async def wait(count: int) -> None:
        async with asyncio.timeout(60), came:
            await came.wait_for(lambda: len(got) >= count)

    return f"http://127.0.0.1:{await listen('/hook', take)}/hook", got, wait


async def test_the_webhook_plugin_of_the_page_posts_when_an_upstream_goes_down_and_is_back(
    stand: Stand, alarm: str, webhook: Hook
) -> None:
    assert len(alarm.splitlines()) <= 50
    url, got, wait = webhook
    plugins = [{"name": "upstream_alarm", "url": url}]
    await stand.start(served("one"), served("two"), plugins=plugins)
    one, two = stand.gateway.pool.upstreams
    one.status.enter(UpstreamState.DOWN, reason="exited with status 1")
    await wait(1)
    one.status.enter(UpstreamState.HEALTHY)
    await wait(2)
    assert got == [
        {"upstream": "one", "state": "down", "before": "healthy", "reason": "exited with status 1"},
        {"upstream": "one", "state": "healthy", "before": "down", "reason": ""},
    ]
    await stand.reload(served("one"), http("two", free_port()), plugins=plugins)
    await wait(3)
    assert (got[2]["upstream"], got[2]["state"]) == ("two", "down")
    await stand.gateway.stop()
    await wait(4)
    assert got[3:] == [{"upstream": "two", "state": "stopped", "before": "down", "reason": ""}]
    assert two.view.state is UpstreamState.STOPPED
