"""The pace of a source, with a clock of the test's own."""

from gateway_core.limits.pace import MAX_PAUSE, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_more_is_slowed_to_the_rate() -> None:
    clock = Clock()
    pace = Pace(10, 20, clock)
    assert pace.pause(20) == 0
    assert pace.pause(2) == 0.2
    clock.now += 0.2
    assert pace.pause(0) == 0


def test_one_pause_is_bounded() -> None:
    pace = Pace(10, 20, Clock())
    assert pace.pause(1000) == MAX_PAUSE


def test_a_source_is_over_until_it_has_been_quiet() -> None:
    clock = Clock()
    pace = Pace(10, 20, clock)
    assert pace.over_for == 0
    pace.pause(30)
    clock.now += 1
    pace.pause(0)
    assert pace.over_for == 1, "a short pause does not end it"
    clock.now += 2
    pace.pause(0)
    assert pace.over_for == 0
