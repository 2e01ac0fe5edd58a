"""Watching all upstreams: when there is enough to list."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_core.api import UpstreamState
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.hooks import Chain
from gateway_core.upstream import health
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.upstream import Upstream
from tests.upstream.watch_kit import stdio, until, watching

ODD = str(Path(__file__).parents[1] / "upstream" / "servers" / "odd.py")


def odd(name: str, *options: str, **settings: Any) -> Upstream:
    config = UpstreamConfig(name=name, transport="stdio", command=sys.executable, args=(ODD, *options), **settings)
    return Upstream(config, ProxyConfig(), 0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STARTUP_GRACE", 0.3)


async def settled(*upstreams: Upstream) -> list[str]:
    """The upstreams that are there when lists have waited long enough."""
    monitor = HealthMonitor(upstreams, Chain([]), lambda: None)
    monitor.start()
    try:
        assert await monitor.wait_first_lists()
        assert not await monitor.wait_first_lists(), "later lists do not wait"
        return [upstream.name for upstream in upstreams if upstream.fetched is not None]
    finally:
        await monitor.stop()
        for upstream in upstreams:
            await upstream.close()


async def test_the_first_list_waits_for_one_server_at_least(impatient: None) -> None:
    assert await settled(odd("slow", "--after", "1.2"), odd("slower", "--after", "600")) == ["slow"]


async def test_one_that_fails_at_once_does_not_end_the_wait_for_the_others(impatient: None) -> None:
    assert await settled(odd("slow", "--after", "1.2"), odd("broken", "--no-such-option")) == ["slow"]


async def test_a_server_that_is_slow_delays_no_list_of_others(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "STARTUP_GRACE", 3.0)
    assert await settled(odd("good"), odd("hanging", "--after", "600")) == ["good"]


async def test_the_wait_for_the_first_server_is_bounded(impatient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FIRST_GRACE", 0.6)
    assert await settled(odd("hanging", "--after", "600")) == []


async def test_a_server_that_ignores_the_probe_for_its_era_is_in_the_first_list() -> None:
    assert await settled(odd("silent", "--discover", "silent")) == ["silent"]


@pytest.mark.parametrize("phase", ["while its calls end", "while its connection closes"])
async def test_an_upstream_that_a_reload_removes_while_it_is_reconnected_is_left_alone(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = stdio()
    async with watching(upstream) as monitor:
        await until(lambda: upstream.reachable)
        upstream.facts.in_flight = 1 if phase == "while its calls end" else 0
        closing, close = asyncio.Event(), upstream.connections.disconnect

        async def slow() -> None:
            closing.set()
            await close()
            await asyncio.sleep(0.5)

        monkeypatch.setattr(upstream.connections, "disconnect", slow)
        assert monitor.begin_reconnect("s", 60.0)
        await until(lambda: closing.is_set() or upstream.facts.in_flight == 1)
        await until(lambda: upstream.facts.state is UpstreamState.CONNECTING)
        monkeypatch.setattr(upstream.connections, "disconnect", close)
        await monitor.forget([upstream])
        await upstream.close()
        upstream.facts.in_flight = 0
        await asyncio.sleep(0.7)
        tasks = {task.get_name() for task in asyncio.all_tasks()}
        assert tasks.isdisjoint({"watch s", "reconnect s"})
        assert upstream.facts.state is UpstreamState.STOPPED


async def test_an_upstream_is_reconnected_once_however_often_that_is_asked_for() -> None:
    upstream = stdio()
    async with watching(upstream) as monitor:
        await until(lambda: upstream.reachable)
        upstream.facts.in_flight = 1
        assert monitor.begin_reconnect("s", 60.0)
        assert monitor.begin_reconnect("s", 60.0)
        await until(lambda: upstream.facts.state is UpstreamState.CONNECTING)
        assert monitor.begin_reconnect("s", 60.0)
        upstream.facts.in_flight = 0
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
        assert upstream.status.connects == 2


async def test_an_upstream_whose_connection_fails_to_close_is_still_reconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream = stdio()
    async with watching(upstream) as monitor:
        await until(lambda: upstream.reachable)

        async def broken() -> None:
            raise ValueError

        with monkeypatch.context() as patch:
            patch.setattr(upstream.connections, "disconnect", broken)
            assert monitor.begin_reconnect("s", 0.0)
            await until(lambda: upstream.status.connects == 2)


async def test_a_list_that_is_asked_for_before_the_servers_are_started_waits_for_them(impatient: None) -> None:
    upstream = odd("slow", "--after", "0.8")
    monitor = HealthMonitor([upstream], Chain([]), lambda: None)
    try:
        waiting = asyncio.create_task(monitor.wait_first_lists(listing=True))
        await asyncio.sleep(0)  # the request is there first
        monitor.start()
        assert await waiting
        assert upstream.fetched is not None
    finally:
        await monitor.stop()
        await upstream.close()
