"""What one owner has of the budget: counted from a size on, and given back."""

import pytest

from gateway_core.limits.accounts import COUNTED_FROM, UNCOUNTED, Account
from gateway_core.limits.budget import COPIES, MemoryBudget

MB = 1024 * 1024


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> MemoryBudget:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return MemoryBudget(1000 * MB, lambda: 50 * MB)


@pytest.fixture
def account(budget: MemoryBudget) -> Account:
    return Account(budget, "one")


def test_a_payload_on_its_way_counts_with_its_copies(budget: MemoryBudget, account: Account) -> None:
    claim = account.claim()
    assert claim.grow(COUNTED_FROM)
    assert budget.held_by("one") == 0, "usual messages cost nothing"
    assert claim.grow(MB)
    assert claim.grow(3 * MB)
    assert claim.grow(2 * MB), "it does not shrink"
    assert budget.held_by("one") == 3 * MB * COPIES
    claim.release()
    claim.release()
    assert budget.held_by("one") == 0


def test_a_payload_that_does_not_fit_keeps_what_it_has(budget: MemoryBudget, account: Account) -> None:
    claim = account.claim()
    assert claim.grow(80 * MB)
    assert not claim.grow(90 * MB)
    assert budget.held_by("one") == 80 * MB * COPIES
    claim.release()
    assert budget.held_by("one") == 0


def test_what_stays_counts_once_and_in_steps(budget: MemoryBudget, account: Account) -> None:
    holding = account.holding()
    assert holding.resize(COUNTED_FROM - 1)
    assert budget.held_by("one") == 0
    assert holding.resize(10 * MB)
    assert holding.resize(10 * MB + 1)
    assert budget.held_by("one") == 10 * MB
    assert holding.resize(MB)
    assert budget.held_by("one") == MB
    assert not holding.resize(300 * MB)
    assert budget.held_by("one") == MB
    assert holding.resize(300 * MB, force=True)
    assert budget.held_by("one") == 300 * MB
    assert holding.resize(0)
    assert budget.held_by("one") == 0


def test_one_owner_leaves_room_to_others(budget: MemoryBudget) -> None:
    first = [Account(budget, "one").holding() for _ in range(100)]
    taken = [holding.resize(10 * MB) for holding in first]
    assert taken.count(True) == 25
    assert Account(budget, "other").holding().resize(100 * MB)


def test_what_was_kept_since_the_last_poll_counts_on_top_of_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    used = 700 * MB
    budget = MemoryBudget(1000 * MB, lambda: used)
    holdings = [Account(budget, f"owner {number}").holding() for number in range(5)]
    assert [holding.resize(90 * MB) for holding in holdings] == [True, True, False, False, False]
    used = 880 * MB
    budget.poll()
    assert not holdings[2].resize(90 * MB), "now the system counts them"
    holdings[0].release()
    holdings[1].release()
    used = 700 * MB
    budget.poll()
    assert holdings[2].resize(90 * MB)


def test_memory_that_became_free_is_seen_although_payloads_are_always_on_their_way() -> None:
    used = 880 * MB
    budget = MemoryBudget(1000 * MB, lambda: used)
    used = 100 * MB
    budget.reserve("busy", 1)
    budget.poll()
    budget.reserve("busy", 50 * MB)


def test_without_a_budget_nothing_is_counted() -> None:
    assert UNCOUNTED.claim().grow(10**12)
    assert UNCOUNTED.holding().resize(10**12)
