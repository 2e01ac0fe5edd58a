"""Used states: each is remembered until it expires, and too many of one holder harm that holder alone."""

import pytest

from gateway_core.pipeline.input_required import used_states
from gateway_core.pipeline.input_required.used_states import UsedStates

LIFE = 60.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def used(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> UsedStates:
    monkeypatch.setattr(used_states, "MAX_USED", 100)
    monkeypatch.setattr(used_states, "MAX_OF_ONE", 20)
    return UsedStates(clock, LIFE)


def add(used: UsedStates, clock: Clock, holder: str, count: int, first: int = 0) -> list[tuple[bytes, float]]:
    """Use states that are issued one second after another."""
    added = []
    for number in range(first, first + count):
        clock.now += 0.01
        added.append((b"%d" % number, clock.now))
        used.add(holder, *added[-1])
    return added


def test_the_rounds_of_one_never_make_a_used_state_of_another_count_again(used: UsedStates, clock: Clock) -> None:
    (mine,) = add(used, clock, "alice", 1)
    for number in range(50):
        add(used, clock, f"10.0.0.{number}", 50)
    assert used.has("alice", *mine)
    assert len(used) <= 100


def test_no_state_of_one_holder_counts_twice_however_many_it_uses(used: UsedStates, clock: Clock) -> None:
    added = add(used, clock, "alice", 500)
    assert all(used.has("alice", *state) for state in added)
    assert len(used) <= 20
    assert not used.has("bob", b"0", added[0][1]), "the age of its states matters to this holder alone"


def test_an_unused_state_stays_valid_unless_its_holder_uses_too_many_later_ones(used: UsedStates, clock: Clock) -> None:
    before = clock.now
    add(used, clock, "alice", 10)
    assert not used.has("alice", b"unused", before)
    add(used, clock, "alice", 50, first=10)
    assert used.has("alice", b"unused", before)
    assert not used.has("alice", b"unused", clock.now + 0.01)


def test_the_largest_holders_make_room(used: UsedStates, clock: Clock) -> None:
    before = clock.now
    add(used, clock, "alice", 3)
    for number in range(10):
        add(used, clock, f"10.0.0.{number}", 15)
    assert not used.has("alice", b"unused", before)
    assert used.has("10.0.0.0", b"unused", before)


def test_holders_are_bounded_too(used: UsedStates, clock: Clock) -> None:
    added = [(f"10.0.{number}.1", *add(used, clock, f"10.0.{number}.1", 1)[0]) for number in range(500)]
    assert all(used.has(*state) for state in added)
    assert len(used) <= 100
    assert not used.has("alice", b"unused", clock.now + 0.01)


def test_what_has_expired_makes_room_first(used: UsedStates, clock: Clock) -> None:
    for number in range(6):
        add(used, clock, f"10.0.0.{number}", 15)
    clock.now += LIFE + 1
    before = clock.now
    (mine,) = add(used, clock, "alice", 1)
    add(used, clock, "bob", 15)
    assert len(used) == 16
    assert used.has("alice", *mine)
    assert not used.has("bob", b"unused", before)


def test_a_state_that_is_given_back_counts_again(used: UsedStates, clock: Clock) -> None:
    (mine,) = add(used, clock, "alice", 1)
    used.remove("alice", mine[0])
    used.remove("alice", mine[0])
    used.remove("bob", mine[0])
    assert not used.has("alice", *mine)
    assert len(used) == 0
