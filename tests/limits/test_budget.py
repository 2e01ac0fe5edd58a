"""The memory budget: refusals, eviction, and the limits of the system."""

import asyncio
import resource
import subprocess
import sys

import pytest

from gateway_core.errors import OVERLOADED, RpcError
from gateway_core.limits.budget import MemoryBudget, default_limit

MB = 1024 * 1024


class Used:
    """The memory that the process uses, as the test says."""

    def __init__(self, megabytes: float) -> None:
        self.megabytes = megabytes

    def __call__(self) -> int:
        return int(self.megabytes * MB)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Used:
    monkeypatch.setattr("gateway_core.limits.budget.trim", lambda: None)
    return Used(50)


@pytest.mark.parametrize(("megabytes", "refused"), [(50, False), (89, False), (90, True), (300, True)])
def test_new_work_is_refused_from_nine_tenths_on(used: Used, megabytes: float, refused: bool) -> None:
    budget = MemoryBudget(100 * MB, used)
    used.megabytes = megabytes
    budget.poll()
    if not refused:
        budget.check()
        return
    with pytest.raises(RpcError, match=r"of its memory \(limits\.memory\)") as found:
        budget.check()
    assert found.value.code == OVERLOADED
    assert found.value.data["retryAfterMs"] > 0


async def test_the_last_measure_counts_while_no_file_can_be_opened(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.limits.budget.POLL", 0.001)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    budget = MemoryBudget(MB)
    budget.poll()
    assert budget.tight
    polling = asyncio.create_task(budget.keep_polling())
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
    try:
        await asyncio.sleep(0.05)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert budget.tight
    assert not polling.done()
    polling.cancel()


async def test_the_memory_is_measured_on_after_a_failure(used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is called when memory is nearly full is code of others."""
    monkeypatch.setattr("gateway_core.limits.budget.POLL", 0.001)
    budget = MemoryBudget(100 * MB, used)
    called = asyncio.Event()

    def broken() -> None:
        called.set()
        raise ValueError("secret")

    budget.when_full(broken)
    used.megabytes = 96
    polling = asyncio.create_task(budget.keep_polling())
    async with asyncio.timeout(30):
        await called.wait()
        assert budget.tight
        used.megabytes = 10
        while budget.tight:
            await asyncio.sleep(0.001)
    polling.cancel()


def test_what_is_idle_is_given_up_only_when_memory_is_nearly_full(used: Used) -> None:
    given_up = []
    budget = MemoryBudget(100 * MB, used)
    budget.when_full(lambda: given_up.append(1))
    for megabytes in (50, 94, 96):
        used.megabytes = megabytes
        budget.poll()
    assert given_up == [1]


@pytest.mark.parametrize("limit", [100, 1000])
def test_free_memory_is_returned_to_the_system_before_anything_is_given_up(
    used: Used, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    given_up = []

    def trimmed() -> None:
        used.megabytes = 60

    monkeypatch.setattr("gateway_core.limits.budget.trim", trimmed)
    budget = MemoryBudget(limit * MB, used)
    budget.when_full(lambda: given_up.append(1))
    used.megabytes = limit * 0.99
    budget.poll()
    assert budget.level == pytest.approx(60 / limit)
    assert given_up == []
    budget.check()


def test_free_memory_is_returned_when_much_more_is_used_than_was_needed(
    used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trimmed() -> None:
        trims.append(used.megabytes)
        used.megabytes = 60

    trims: list[float] = []
    monkeypatch.setattr("gateway_core.limits.budget.trim", trimmed)
    monkeypatch.setattr("gateway_core.limits.budget.TRIM_INTERVAL", 0.0)
    budget = MemoryBudget(1000 * MB, used)
    for megabytes in (110, 115, 110, 125, 124):
        used.megabytes = megabytes
        budget.poll()
    assert trims == [115, 125]


def test_large_payloads_are_refused_before_they_arrive(used: Used) -> None:
    budget = MemoryBudget(200 * MB, used)
    taken = 0
    for number in range(100):
        try:
            budget.reserve(f"agent {number}", 4 * MB)
        except RpcError:
            break
        taken += 1
    assert taken == 10, "three copies each, beside the 50 MB that are used, within 180 MB"
    budget.release("agent 0", 4 * MB)
    budget.reserve("another", 4 * MB)


def test_one_owner_has_a_share_only(used: Used) -> None:
    budget = MemoryBudget(1000 * MB, used)
    budget.reserve("greedy", 80 * MB)
    with pytest.raises(RpcError, match="greedy has used its share"):
        budget.reserve("greedy", 4 * MB)
    budget.reserve("modest", 4 * MB)


def test_everything_is_given_back(used: Used) -> None:
    budget = MemoryBudget(1000 * MB, used)
    for size in (1, 1000, MB):
        budget.reserve("a", size)
    assert budget._reserved == MB + 1001
    budget.release("a", MB + 1001)
    assert budget._reserved == 0
    assert budget._owners == {}


def test_the_default_is_a_share_of_the_machine() -> None:
    assert 32 * MB < MemoryBudget().limit == default_limit()


def test_a_limit_of_the_address_space_counts() -> None:
    code = "from gateway_core.limits.budget import MemoryBudget; b = MemoryBudget(); print(b.limit, b.level)"
    limit = 2048 * MB
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    found, level = done.stdout.split()
    assert int(found) <= limit
    assert 0.0 < float(level) < 0.9
