"""What operators see of one upstream, by a clock that the tests turn."""

from __future__ import annotations

import pytest

from gateway_core.api import UpstreamState
from gateway_core.config import UpstreamConfig
from gateway_core.upstream.status import SUSTAINED, UpstreamStatus
from tests.upstream.watch_kit import HandClock


class Rig:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.status = UpstreamStatus(UpstreamConfig(name="s", transport="stdio", command="x"), 0, self.clock)

    def live(self, seconds: float) -> None:
        """Be up for that long, then be lost."""
        self.status.connected()
        self.clock.turn(seconds)
        self.status.ended("no disk")
        self.status.lost("exited with status 3")


def test_a_server_that_is_lost_again_and_again_is_called_unsteady_while_it_is_up() -> None:
    rig = Rig()
    for times in range(1, 5):
        rig.live(1.5)
        assert rig.status.unsteady == "", "it is down, which its state says"
        rig.status.connected()
        expected = f"s was lost {times} times without 60 s of health between: exited with status 3: no disk"
        assert rig.status.unsteady == (expected if times >= 3 else "")
    rig.clock.turn(SUSTAINED)
    assert rig.status.unsteady == ""


def test_losses_count_again_from_one_after_sustained_health() -> None:
    rig = Rig()
    for _ in range(5):
        rig.live(1.5)
    rig.live(SUSTAINED)
    rig.status.connected()
    assert rig.status.unsteady == ""


def test_attempts_that_fail_are_no_losses() -> None:
    rig = Rig()
    for _ in range(5):
        rig.status.lost("connection refused")
    rig.status.connected()
    assert rig.status.unsteady == ""


def test_a_new_state_replaces_the_reason_and_the_time_of_the_next_attempt() -> None:
    status = Rig().status
    status.enter(UpstreamState.DOWN, reason="HTTP 401", retry_at=status.clock.now() + 7)
    assert status.last_error == "HTTP 401"
    assert status.retry_in() == pytest.approx(7, abs=0.5)
    status.enter(UpstreamState.CONNECTING)
    assert status.last_error == "HTTP 401"
    assert status.retry_in() is None
    status.enter(UpstreamState.HEALTHY)
    assert status.last_error is None
    assert status.view.healthy
