"""Deadlines of many requests on one timer: each cancels its own task and no other, at its own moment."""

import asyncio
from collections.abc import Awaitable

import pytest

from gateway_core.deadlines import Deadline, Deadlines


async def bounded(deadlines: Deadlines, seconds: float, work: Awaitable[object]) -> str:
    """What becomes of `work`: "done", or "late"."""
    task = asyncio.current_task()
    assert task is not None
    deadline = deadlines.begin(task, asyncio.get_running_loop().time() + seconds)
    try:
        await work
    except asyncio.CancelledError:
        if not deadline.caused():
            raise
        return "late"
    finally:
        deadline.end()
    return "done"


async def test_each_task_ends_at_its_own_deadline_in_whatever_order_they_were_set() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    ended: dict[float, float] = {}

    async def one(seconds: float) -> None:
        started = loop.time()
        assert await bounded(deadlines, seconds, asyncio.sleep(60)) == "late"
        ended[seconds] = loop.time() - started

    await asyncio.gather(*(one(seconds) for seconds in (0.3, 0.05, 0.2, 0.1)))
    assert sorted(ended, key=lambda seconds: ended[seconds]) == [0.05, 0.1, 0.2, 0.3]
    assert all(took >= seconds - 0.01 for seconds, took in ended.items())


async def test_a_task_that_is_in_time_is_never_cancelled_afterwards() -> None:
    deadlines = Deadlines()
    assert await bounded(deadlines, 0.03, asyncio.sleep(0)) == "done"
    await asyncio.sleep(0.06)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_a_cancellation_by_somebody_else_stays_one() -> None:
    task = asyncio.create_task(bounded(Deadlines(), 60, asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_comes_together_with_the_deadline_stays_one() -> None:
    deadlines, begun = Deadlines(), asyncio.Event()
    found: list[Deadline] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        deadline = deadlines.begin(task, asyncio.get_running_loop().time() + 60)
        found.append(deadline)
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            assert not deadline.caused()
            raise
        finally:
            deadline.end()

    task = asyncio.create_task(work())
    await begun.wait()
    found[0].lapse()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_moves_both_ways() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()

    async def moved(seconds: float, to: float) -> float:
        task, started = asyncio.current_task(), loop.time()
        assert task is not None
        deadline = deadlines.begin(task, started + seconds)
        loop.call_later(0.01, lambda: deadline.move(started + to))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(60)
        assert deadline.caused()
        deadline.end()
        assert not task.cancelling()
        return loop.time() - started

    later, earlier = await asyncio.gather(moved(0.05, 0.2), moved(60, 0.1))
    assert later >= 0.19
    assert earlier < 1


async def test_a_deadline_that_has_ended_or_passed_moves_no_more() -> None:
    deadlines, loop = Deadlines(), asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    deadline = deadlines.begin(task, loop.time() + 60)
    deadline.end()
    deadline.move(loop.time() - 1)
    await asyncio.sleep(0.01)
    assert not deadline.passed
