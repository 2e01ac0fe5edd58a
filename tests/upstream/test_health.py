"""Watching all upstreams: when there is enough to list."""

import sys
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.hooks import Chain
from gateway_core.upstream import health
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.upstream import Upstream

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
