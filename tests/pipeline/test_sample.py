"""Which calls are measured while operators watch."""

import pytest

from gateway_core.pipeline import sample
from gateway_core.pipeline.sample import Sample


def test_a_few_calls_of_each_second_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(sample.time, "monotonic", lambda: now)
    few = Sample(3)
    assert [few.takes() for _ in range(3)] == [True] * 3
    taken = []
    for _ in range(4):
        taken.append(sum(few.takes() for _ in range(100)))
        now += 1.0
    assert taken == [3, 3, 3, 3]


def test_calls_that_are_rare_are_all_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(sample.time, "monotonic", lambda: now)
    few = Sample(1)
    for _ in range(10):
        assert few.takes()
        now += 1.5
