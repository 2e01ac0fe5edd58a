"""Keys that are found when their time has come."""

import gc
import math
import tracemalloc

from gateway_core.downstream.sessions.due import Due


def test_keys_are_taken_once_and_not_before_their_time() -> None:
    due: Due[str] = Due()
    for key, when in {"c": 12.5, "a": 10.2, "b": 10.9, "d": 500.0}.items():
        due.put(key, when)
    assert due.take(10.0) == []
    assert due.take(10.5) == ["a"]
    assert due.take(10.9) == ["b"]
    assert due.take(12.4) == []
    assert due.take(100.0) == ["c"]
    assert due.take(100.0) == []
    assert len(due) == 1


def test_a_key_has_one_time_and_can_be_removed() -> None:
    due: Due[str] = Due()
    due.put("moved", 10.0)
    due.put("moved", 20.0)
    due.put("removed", 10.0)
    due.remove("removed")
    due.remove("unknown")
    assert due.take(15.0) == []
    assert due.take(20.0) == ["moved"]
    due.put("moved", 10.0)
    due.put("moved", math.inf)
    assert len(due) == 0


def test_a_time_that_is_over_is_due_at_once() -> None:
    due: Due[str] = Due()
    due.put("late", -5.5)
    assert due.take(0.0) == ["late"]
    due.put("again", 3.0)
    assert due.take(90.0) == ["again"]


def test_removed_keys_need_no_memory_until_their_time() -> None:
    due: Due[str] = Due()
    due.put("stays", 50_000.5)
    tracemalloc.start()
    try:
        for second in range(100_000):
            due.put("renewed", float(second))
        due.remove("renewed")
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert due.take(50_000.0) == []
    assert due.take(50_001.0) == ["stays"]
    assert due.take(200_000.0) == []


def test_keys_stay_in_order_after_many_removals() -> None:
    due: Due[int] = Due()
    for key in range(1000):
        due.put(key, float(key))
    for key in range(1000):
        if key % 10:
            due.remove(key)
    due.put(2000, 555.0)
    assert due.take(549.0) == list(range(0, 550, 10))
    assert due.take(600.0) == [550, 2000, *range(560, 601, 10)]
    due.put(1, 990.0)
    assert due.take(5000.0) == [*range(610, 991, 10), 1]
