"""When calls eject an upstream and when it comes back, by a clock that the tests turn."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway_core.api import UpstreamState
from gateway_core.config import UpstreamConfig
from gateway_core.upstream.ejection import TIMED_OUT
from gateway_core.upstream.liveness import Liveness
from gateway_core.upstream.signals import Signals
from gateway_core.upstream.status import UpstreamStatus
from tests.upstream.watch_kit import HandClock


class Even(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


class Rig:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.status = UpstreamStatus(UpstreamConfig(name="s", transport="stdio", command="x"), 0, self.clock)
        self.liveness = Liveness(tuple)
        self.signals = Signals(self.status, self.liveness, self.clock, Even())
        self.status.connected()
        self.liveness.connected(self.clock.now())

    def fail(self, times: int, *, sent: bool = True) -> None:
        for _ in range(times):
            self.signals.failed("reset", sent=sent)

    @property
    def state(self) -> UpstreamState:
        return self.status.facts.state

    def back(self) -> None:
        """Wait for the end of the ejection."""
        self.clock.turn(self.status.retry_in() or 0.0)
        assert self.signals.check_succeeded()


async def woken(signals: Signals) -> bool:
    """Whether the watch is woken."""
    task = asyncio.ensure_future(signals.wait())
    await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    return done


def test_five_failures_in_a_row_eject_until_the_time_is_over_and_a_check_succeeds() -> None:
    rig = Rig()
    rig.fail(4)
    rig.signals.answered()
    rig.fail(4)
    assert rig.state is UpstreamState.HEALTHY
    rig.fail(1)
    assert rig.state is UpstreamState.EJECTED
    assert rig.status.retry_in() == pytest.approx(30, abs=0.5)
    assert not rig.signals.check_succeeded()
    rig.back()
    assert rig.state is UpstreamState.HEALTHY


def test_ejections_become_longer_up_to_five_minutes_and_short_again_after_a_quiet_time() -> None:
    rig, times = Rig(), []
    for _ in range(12):
        rig.fail(5)
        times.append(round(rig.status.retry_in() or 0.0))
        rig.back()
    assert times == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
    rig.clock.turn(900)
    rig.fail(5)
    assert rig.status.retry_in() == pytest.approx(30, abs=0.5)


def test_a_server_that_could_not_be_reached_is_back_after_two_checks_in_a_row() -> None:
    rig = Rig()
    rig.fail(5, sent=False)
    assert rig.signals.rising
    assert not rig.signals.check_succeeded()
    rig.signals.check_failed()
    assert not rig.signals.check_succeeded()
    assert rig.signals.check_succeeded()


def test_a_timeout_is_a_failure_that_ends_the_patience_with_the_server() -> None:
    rig = Rig()
    rig.liveness.answered(rig.clock.now())
    rig.signals.failed(TIMED_OUT, sent=True)
    assert rig.liveness.explained_until(rig.clock.now()) < rig.clock.now()


async def test_the_first_failure_and_a_change_of_the_lists_wake_the_watch() -> None:
    signals = Rig().signals
    assert not await woken(signals)
    signals.failed("reset", sent=True)
    assert await woken(signals)
    signals.woken()
    signals.failed("reset", sent=True)
    assert not await woken(signals), "a check is due already"
    signals.check_succeeded()
    signals.failed("reset", sent=True)
    assert await woken(signals)
    signals.woken()
    signals.lists_changed()
    assert await woken(signals)
    assert signals.stale
    signals.refreshing()
    assert not signals.stale
