"""Times after failures, by a clock that the tests turn."""

import random
from typing import Any

import pytest

from gateway_core.upstream.ejection import Backoff, Loss, PassiveChecks, ReconnectPolicy


class Highest(random.Random):
    """The longest wait that the jitter allows."""

    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_backoff_doubles_under_full_jitter_up_to_a_minute() -> None:
    assert Backoff(Lowest()).next() == 0
    backoff = Backoff(Highest())
    assert [backoff.next() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next() == 1


def test_five_failures_in_a_row_eject() -> None:
    passive = PassiveChecks()
    assert [passive.failed(now) for now in range(5)] == [False] * 4 + [True]


def test_a_success_begins_the_row_anew() -> None:
    passive = PassiveChecks()
    for now in range(4):
        passive.failed(now)
    passive.succeeded(4)
    assert not passive.failed(5)


def test_half_of_ten_failures_eject() -> None:
    passive = PassiveChecks()
    assert _every_second_fails(passive, 0, 10) == [False] * 4 + [True]


def test_old_failures_are_forgotten() -> None:
    passive = PassiveChecks()
    for now in range(4):
        passive.failed(now)
    passive.succeeded(100)
    assert _every_second_fails(passive, 100, 8) == [False] * 4


def _every_second_fails(passive: PassiveChecks, begin: int, calls: int) -> list[bool]:
    """One call a second; what the failed ones made of it."""
    verdicts = []
    for now in range(begin, begin + calls, 2):
        passive.succeeded(now)
        verdicts.append(passive.failed(now + 1))
    return verdicts


def waits(retries: ReconnectPolicy, count: int, **how: Any) -> list[float]:
    return [retries.after(Loss("broken", **how))[1] for _ in range(count)]


def test_a_failure_that_does_not_heal_is_tried_ever_more_rarely_up_to_ten_minutes() -> None:
    assert waits(ReconnectPolicy(Highest()), 12, lasting=True)[-4:] == [256, 512, 600, 600]
    assert waits(ReconnectPolicy(Lowest()), 12, lasting=True)[-4:] == [128, 256, 300, 300]


def test_the_same_end_with_the_same_last_words_does_not_heal() -> None:
    retries = ReconnectPolicy(Highest())
    loss = Loss("exited with status 1", repeats=True)
    ends = [retries.after(loss, f"12:0{n} no database") for n in range(9)]
    assert ends[0] == ("exited with status 1", 1)
    assert ends[1] == ("exited with status 1, 2 times in a row", 2)
    assert ends[8] == ("exited with status 1, 9 times in a row", 256), "times and process ids make no difference"


def test_another_end_in_between_begins_the_row_again() -> None:
    retries = ReconnectPolicy(Highest())
    for words in ("no database", "no disk", "no database"):
        reason, _ = retries.after(Loss("exited", repeats=True), words)
        assert reason == "exited"
    assert waits(retries, 9)[-1] == 60, "a failure that may pass is tried once a minute"


def test_the_time_that_a_server_asks_for_is_kept_within_bounds() -> None:
    assert waits(ReconnectPolicy(Lowest()), 1, wait=90.0) == [90]
    assert waits(ReconnectPolicy(Lowest()), 1, wait=1e9) == [600]


def test_ejections_that_lie_far_apart_do_not_add_up() -> None:
    passive = PassiveChecks()
    assert [passive.ejected(now) for now in (1000, 1400, 2299, 3200, 3300)] == [1, 2, 3, 1, 2]


def test_a_process_is_started_again_at_once_only_after_sustained_health() -> None:
    retries = ReconnectPolicy(Highest())
    assert retries.may_reconnect(1.5, process=True, served=True)
    for _ in range(3):
        retries.lived(59)
        assert not retries.may_reconnect(59, process=True, served=True)
    assert waits(retries, 1) == [2]
    retries.lived(60)
    assert retries.may_reconnect(60, process=True, served=True)


@pytest.mark.parametrize(("healthy", "served", "at_once"), [(1.5, False, False), (1.5, True, True), (10, False, True)])
def test_a_session_over_http_may_be_short(healthy: float, served: bool, at_once: bool) -> None:
    retries = ReconnectPolicy(Highest())
    lost = [retries.may_reconnect(healthy, process=False, served=served) for _ in range(4)]
    assert lost == [True, *[at_once] * 3]


def test_a_connection_that_is_lost_right_away_is_not_opened_at_once() -> None:
    assert not ReconnectPolicy(Highest()).may_reconnect(0.5, process=True, served=True)
