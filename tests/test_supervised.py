"""Steps and polls that a failure does not cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from loguru import logger

from gateway_core.log.sparing import Sparing
from gateway_core.supervised import cancel_all, poll, run_all, run_each, run_now, uninterrupted


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines of the log that say what failed."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"].splitlines()[0]), level="ERROR")
    yield lines
    logger.remove(sink)


class Work:
    """Work that waits until it may go on."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = False

    async def run(self) -> str:
        self.began.set()
        await self.go_on.wait()
        self.ended = True
        return "done"


async def test_work_runs_to_its_end_however_often_its_caller_is_cancelled() -> None:
    work = Work()
    caller = asyncio.ensure_future(uninterrupted(work.run()))
    await work.began.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended


async def test_the_caller_gets_the_result_or_the_failure_of_its_work() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    work = Work()
    work.go_on.set()
    assert await uninterrupted(work.run()) == "done"
    with pytest.raises(ValueError, match="broken"):
        await uninterrupted(broken())


async def test_each_step_runs_after_failures_and_cancellations_of_earlier_ones(logged: list[str]) -> None:
    ran: list[str] = []

    def at_once() -> None:
        ran.append("at once")
        raise ValueError("secret")

    async def later() -> None:
        ran.append("later")
        raise OSError("secret")

    async def awaits_what_is_cancelled() -> None:
        ran.append("cancelled")
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    await run_all("closing", at_once, later, awaits_what_is_cancelled, lambda: ran.append("last"))
    assert ran == ["at once", "later", "cancelled", "last"]
    assert logged == [f"{kind} while closing" for kind in ("ValueError", "OSError", "CancelledError")]


async def test_the_steps_go_on_when_the_caller_is_cancelled_twice() -> None:
    work, last = Work(), Work()
    caller = asyncio.ensure_future(run_all("closing", work.run, last.run))
    for step in (work, last):
        await step.began.wait()
        caller.cancel()
        await asyncio.sleep(0)
        step.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert last.ended


def test_steps_of_one_turn_all_run_and_failures_are_logged(logged: list[str]) -> None:
    ran: list[int] = []

    def broken(number: int) -> None:
        ran.append(number)
        raise ValueError(str(number))

    assert not run_now("switching", lambda: broken(1), lambda: ran.append(2), lambda: broken(3))
    assert ran == [1, 2, 3]
    assert logged == ["ValueError while switching"] * 2
    assert run_now("switching", lambda: None)


def test_a_step_runs_for_each_although_it_fails_for_some_and_one_line_says_so(logged: list[str]) -> None:
    ran: list[int] = []

    def step(number: int) -> None:
        ran.append(number)
        if number != 2:
            raise ValueError(str(number))

    spoken = Sparing()
    run_each("telling an agent", spoken, (1, 2, 3), step)
    run_each("telling an agent", spoken, (4,), step)
    assert ran == [1, 2, 3, 4]
    assert logged == ["ValueError while telling an agent"]


async def test_a_poll_goes_on_after_a_failure_which_is_logged_once(logged: list[str]) -> None:
    calls: list[int] = []

    def broken() -> None:
        raise ValueError("secret")

    async def counted() -> None:
        calls.append(1)

    polling = asyncio.ensure_future(poll("looking", 0.001, broken, counted))
    async with asyncio.timeout(30):
        while len(calls) < 3:
            await asyncio.sleep(0.001)
    polling.cancel()
    assert logged == ["ValueError while looking"]


async def test_a_poll_goes_on_after_a_cancellation_of_what_it_waits_for(logged: list[str]) -> None:
    calls: list[int] = []
    waiting = Work()

    async def awaits_what_is_cancelled() -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async def counted() -> None:
        calls.append(1)
        if len(calls) == 3:
            await waiting.run()

    polling = asyncio.ensure_future(poll("looking", 0.001, awaits_what_is_cancelled, counted))
    async with asyncio.timeout(30):
        await asyncio.wait({polling, asyncio.ensure_future(waiting.began.wait())}, return_when="FIRST_COMPLETED")
        assert not polling.done()
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
    assert len(calls) == 3
    assert logged == ["CancelledError while looking"]


async def test_tasks_are_cancelled_and_have_ended() -> None:
    async def broken() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("secret")

    tasks = [asyncio.ensure_future(asyncio.sleep(60)), asyncio.ensure_future(broken())]
    await asyncio.sleep(0)
    await cancel_all(tasks)
    assert all(task.done() for task in tasks)
