"""When a server counts as unused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gateway_core.upstream.life.idleness import FOR_LISTS, Idleness
from gateway_core.upstream.upstream import Upstream
from tests.upstream.watch_kit import HandClock, stdio


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def lazy(clock: HandClock, **settings: Any) -> Upstream:
    return stdio(clock=clock, start="lazy", **settings)


async def test_a_server_is_stopped_after_its_limit_without_use(clock: HandClock) -> None:
    idleness = Idleness(lazy(clock, idle_stop=100.0), asked_for=True)
    assert idleness.left() == pytest.approx(100.0, abs=1)
    clock.turn(60.0)
    assert idleness.left() == pytest.approx(40.0, abs=1)
    clock.turn(41.0)
    assert idleness.left() <= 0


async def test_a_call_begins_the_time_again(clock: HandClock) -> None:
    upstream = lazy(clock, idle_stop=100.0)
    idleness = Idleness(upstream, asked_for=True)
    idleness.left()
    clock.turn(99.0)
    upstream.calls += 1
    assert idleness.left() == pytest.approx(100.0, abs=1)


async def test_a_use_counts_until_its_end(clock: HandClock) -> None:
    upstream = lazy(clock, idle_stop=100.0)
    idleness = Idleness(upstream, asked_for=True)
    upstream.facts.in_flight += 1
    for _ in range(3):
        clock.turn(99.0)
        assert idleness.left() == pytest.approx(100.0, abs=1)
    upstream.facts.in_flight -= 1
    clock.turn(99.0)
    assert idleness.left() == pytest.approx(100.0, abs=1), "it may have ended just now"
    clock.turn(99.0)
    assert idleness.left() == pytest.approx(1.0, abs=1)


async def test_a_held_server_is_in_use(clock: HandClock) -> None:
    upstream = lazy(clock, idle_stop=100.0)
    idleness = Idleness(upstream, asked_for=True)
    upstream.connections.demand.hold(1000.0)
    clock.turn(999.0)
    assert idleness.left() > 0
    clock.turn(2.0)
    idleness.left()
    clock.turn(101.0)
    assert idleness.left() <= 0


async def test_a_server_that_was_started_for_its_lists_is_stopped_soon(clock: HandClock) -> None:
    upstream = lazy(clock)
    idleness = Idleness(upstream, asked_for=False)
    idleness.left()
    assert idleness.left() == pytest.approx(FOR_LISTS, abs=1)
    upstream.calls += 1
    assert idleness.left() == pytest.approx(600.0, abs=1), "it is in use now"


@pytest.mark.parametrize("settings", [{}, {"start": "lazy", "idle_stop": 0.0}])
async def test_a_server_without_a_limit_is_never_stopped(clock: HandClock, settings: dict[str, Any]) -> None:
    upstream = stdio(clock=clock, **settings)
    idleness = Idleness(upstream, asked_for=upstream.config.start == "lazy")
    clock.turn(1e6)
    assert idleness.left() == math.inf
