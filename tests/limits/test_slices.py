"""Long work leaves the loop to others, and takes every change."""

import asyncio
from collections.abc import Callable

import pytest

from gateway_core.limits.slices import SLICE, RepeatedWork, Slices, finish, in_turns, mapped, sliced


class Doubled:
    """Work that doubles a number that may change at any time."""

    def __init__(self, slices: int) -> None:
        self.slices = slices
        self.number = self.taken = 0
        self.runs = 0
        self.failures: list[Exception] = []
        self.fails = False
        self.work = RepeatedWork(self.run, "double", self.failures.append)

    def run(self) -> Slices[None]:
        self.runs += 1
        number = self.number
        for _ in range(self.slices):
            yield
        if self.fails:
            raise ValueError("failed")
        self.taken = number * 2

    def change(self, number: int) -> None:
        self.number = number
        self.work.run()


def test_items_are_mapped_in_slices() -> None:
    work = mapped(str, range(3 * SLICE))
    assert [next(work), next(work)] == [None, None]
    assert finish(work) == [str(number) for number in range(3 * SLICE)]
    assert [len(part) for part in sliced(range(SLICE + 1))] == [SLICE, 1]


async def test_each_slice_has_its_turn_of_the_loop() -> None:
    turns: list[int] = []

    def work() -> Slices[str]:
        for number in range(5):
            turns.append(number)
            yield
        return "done"

    loop = asyncio.get_running_loop()
    loop.call_soon(turns.append, -1)
    loop.call_soon(lambda: loop.call_soon(turns.append, -2))
    assert await in_turns(work()) == "done"
    assert turns == [0, -1, 1, -2, 2, 3, 4]


async def test_small_work_is_done_at_once() -> None:
    doubled = Doubled(0)
    doubled.change(1)
    assert doubled.taken == 2
    assert not await doubled.work.settled()


def test_without_a_loop_all_work_is_done_at_once() -> None:
    doubled = Doubled(9)
    doubled.change(1)
    assert doubled.taken == 2


async def test_a_change_during_a_run_is_taken_by_another_run() -> None:
    doubled = Doubled(9)
    for number in range(1, 4):
        doubled.change(number)
    assert doubled.taken == 0
    assert await doubled.work.settled()
    assert doubled.taken == 6
    assert doubled.runs == 2, "the changes during one run share the next"


async def test_it_is_settled_when_the_changes_up_to_now_are_taken() -> None:
    """Somebody who changes things all the time must not keep others waiting for ever."""
    doubled = Doubled(3)
    doubled.change(1)
    settled = asyncio.ensure_future(doubled.work.settled())
    for number in range(2, 50):
        await asyncio.sleep(0)
        if settled.done():
            break
        doubled.change(number)
    assert settled.done()
    assert doubled.taken >= 2
    await doubled.work.close()


@pytest.mark.parametrize("change", [lambda doubled: doubled.change(2), lambda doubled: None])
async def test_a_run_that_failed_loses_no_change(change: Callable[[Doubled], None]) -> None:
    doubled = Doubled(3)
    doubled.fails = True
    doubled.change(1)
    change(doubled)
    await doubled.work.settled()
    doubled.fails = False
    doubled.change(3)
    await doubled.work.settled()
    assert doubled.taken == 6
    assert doubled.failures


async def test_a_closed_run_ends() -> None:
    doubled = Doubled(10**9)
    doubled.change(1)
    await asyncio.sleep(0)
    await doubled.work.close()
    assert not await doubled.work.settled()
