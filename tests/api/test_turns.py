"""Turn-taking: even for each name while upstreams come and go, and bounded in memory."""

from collections import Counter

import pytest

from gateway_core import Turns
from gateway_core.api import turns as module
from gateway_core.testing import make_call, make_upstream

A, B, C = (make_upstream(name, order=order) for order, name in enumerate("abc"))


def test_those_that_never_served_come_first_in_order_then_the_one_that_waited_longest() -> None:
    turns, call = Turns(), make_call()
    assert [turns.take(call, [A, B]).name for _ in range(3)] == ["a", "b", "a"]
    assert [turns.take(call, [A, B, C]).name for _ in range(4)] == ["c", "b", "a", "c"]


def test_turns_are_kept_for_each_method_and_name() -> None:
    turns = Turns()
    calls = [make_call("one"), make_call("two"), make_call("one", method="prompts/get")]
    assert [turns.take(call, [A, B]).name for call in calls] == ["a", "a", "a"]
    assert [turns.take(call, [A, B]).name for call in calls] == ["b", "b", "b"]


def test_turns_stay_even_when_candidates_come_and_go() -> None:
    turns, call = Turns(), make_call()
    served = Counter(turns.take(call, [A, B, C] if number % 3 else [B, C]).name for number in range(300))
    assert max(served.values()) - min(served.values()) <= 2


def test_a_single_candidate_needs_no_turn() -> None:
    turns = Turns()
    assert turns.take(make_call(), [B]) is B
    assert len(turns) == 0


def test_names_are_bounded_and_the_latest_are_kept() -> None:
    turns = Turns(max_names=10)
    for number in range(50):
        turns.take(make_call(f"tool{number}"), [A, B])
        turns.take(make_call("tool0"), [A, B])
    assert len(turns) == 10
    assert turns.take(make_call("tool49"), [A, B]) is B
    assert turns.take(make_call("tool41"), [A, B]) is B
    assert turns.take(make_call("tool40"), [A, B]) is A, "it was forgotten"


def test_long_names_are_cut() -> None:
    turns = Turns()
    long = "file:///" + "x" * module.MAX_NAME
    assert turns.take(make_call(long + "1", method="resources/read"), [A, B]) is A
    assert turns.take(make_call(long + "2", method="resources/read"), [A, B]) is B
    assert len(turns) == 1


def test_upstreams_of_one_name_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UPSTREAMS", 2)
    turns, call = Turns(), make_call()
    assert [turns.take(call, [A, B, C]).name for _ in range(3)] == ["a", "b", "c"]
    assert turns.take(call, [A, B, C]) is A, "its turn was forgotten first"
