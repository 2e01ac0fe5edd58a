"""The record of changes: what is kept where there is no room for all."""

import msgspec
import pytest

from gateway_core.activity.definitions import changes
from gateway_core.activity.definitions.changes import MAX_OF_ONE, DefinitionChange, MemberChange, Record
from gateway_core.activity.definitions.differences import What


def change(
    number: int, name: str = "", upstream: str = "a", what: What = "changed", text: str = "x"
) -> DefinitionChange:
    members = (MemberChange("description", "", text, False),)
    return DefinitionChange(number, 1.0, upstream, "tool", name or f"t{number}", what, members, 0, seen=False)


def ids(record: Record) -> list[int]:
    return [one.id for one in record.changes]


def test_the_latest_come_first_and_some_are_marked() -> None:
    record = Record(map(change, (1, 2, 3)))
    assert record.mark_seen([2, 99]) == 1
    assert record.mark_seen([2]) == 0
    assert record.unseen == 2
    assert [one.id for one in record.latest(2, lambda one: not one.seen)] == [3, 1]
    assert [one.id for one in record.latest(1, lambda one: True)] == [3]


def test_a_change_repeats_only_the_latest_of_its_definition() -> None:
    record = Record([change(1, "t", text="x"), change(2, "t", text="y"), change(3, "other")])
    assert record.repeats_latest(change(4, "t", text="y"))
    assert not record.repeats_latest(change(4, "t", text="x"))
    assert not record.repeats_latest(change(4, "t", what="added", text="y"))
    assert not record.repeats_latest(change(4, "none"))


def test_an_id_counts_once() -> None:
    record = Record([change(1, "one"), change(1, "other"), change(2)])
    assert [one.name for one in record.changes] == ["one", "t2"]


def test_of_one_definition_the_first_change_and_the_latest_are_kept() -> None:
    record = Record(change(number, "same") for number in range(1, MAX_OF_ONE + 4))
    assert ids(record) == [1, 5, 6, 7]
    assert (record.left_out, record.unseen) == (3, 7)
    assert record.unseen_of(change(9, "same")) == MAX_OF_ONE
    assert record.unseen_of(change(9, "same", "b")) == 0


def test_a_change_that_was_seen_is_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_CHANGES", 3)
    record = Record(map(change, (1, 2, 3)))
    record.mark_seen([2])
    record.add(change(4))
    assert ids(record) == [1, 3, 4]
    assert record.left_out == 0


def test_a_server_with_many_changes_does_not_push_out_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_CHANGES", 4)
    record = Record([change(1, upstream="quiet"), change(2, upstream="loud")])
    for number in range(3, 9):
        record.add(change(number, upstream="loud", what="added"))
    assert ids(record) == [1, 2, 7, 8], "its changed definition outlives those that it adds"
    assert (record.left_out, record.unseen) == (4, 8)


def test_the_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(msgspec.json.encode(change(1, text="y" * 1000)))
    monkeypatch.setattr(changes, "MAX_BYTES", 3 * one)
    record = Record(change(number, text="y" * 1000) for number in range(1, 6))
    assert ids(record) == [3, 4, 5]


def test_dropped_changes_count_until_all_others_are_seen() -> None:
    record = Record(map(change, (1, 2)), left_out=5)
    record.mark_seen([1])
    assert record.unseen == 6
    record.mark_seen([2])
    assert (record.unseen, record.left_out) == (0, 0)
