"""Lines that are written once a minute."""

import pytest

from gateway_core.log.sparing import MAX_KEYS, PERIOD, Sparing


def test_a_sparing_line_is_due_once_a_minute_for_each_of_a_bounded_number_of_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway_core.log.sparing.time.monotonic", lambda: now)
    lines = Sparing()
    assert [lines.due("a"), lines.due("a"), lines.due("b")] == [True, False, True]
    now += PERIOD
    assert [lines.due("a"), lines.due("a")] == [True, False]
    assert sum(lines.due(f"stranger {number}") for number in range(2 * MAX_KEYS)) == MAX_KEYS - 1
    now += PERIOD
    assert lines.due("another")
