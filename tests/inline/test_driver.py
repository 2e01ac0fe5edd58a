"""Calls that are stepped by hand until they wait for something unusual, and their deadlines on one timer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import Completion, InlineCall, in_task, is_stepping, task_of


def begin(coroutine: Coroutine[Any, Any, Any], calls: Deadlines | None = None, seconds: float = 60) -> InlineCall[Any]:
    calls = calls or Deadlines()
    call: InlineCall[Any] = InlineCall(calls, coroutine=coroutine)
    call.move(asyncio.get_running_loop().time() + seconds)
    call.begin()
    call.step()
    return call


async def answered(completion: Completion[str], trace: list[str] | None = None) -> str:
    """One call: waits for its answer, tells of a cancellation, and always ends with `after`."""
    try:
        return (await completion).upper()
    except asyncio.CancelledError:
        if trace is not None:
            trace.append("told the upstream")
        raise
    finally:
        if trace is not None:
            trace.append("after")


async def test_a_call_that_waits_for_its_answer_only_has_no_task() -> None:
    answer: Completion[str] = Completion()
    before = len(asyncio.all_tasks())
    call = begin(answered(answer))
    ends: list[Any] = []
    call.add_done_callback(ends.append)
    assert not call.done()
    answer.complete("good")
    assert ends == [call], "it ends inside of the callback that brought the answer"
    assert call.result() == "GOOD"
    assert len(asyncio.all_tasks()) == before


async def test_a_call_that_never_waits_is_done_at_once_and_tells_soon() -> None:
    answer: Completion[str] = Completion()
    answer.complete("now")
    call = begin(answered(answer))
    assert call.done()
    ends: list[Any] = []
    call.add_done_callback(ends.append)
    assert not ends, "whoever began it has not returned yet"
    await asyncio.sleep(0)
    assert ends == [call]


async def test_an_answer_after_the_promotion_reaches_the_task() -> None:
    answer: Completion[str] = Completion()
    call = begin(answered(answer))
    task = call.promote()
    assert call.promote() is task
    answer.complete("late")  # before the first step of the task
    assert await task == "LATE"
    assert call.result() == "LATE"


async def test_an_answer_that_the_task_waits_for_reaches_it() -> None:
    answer: Completion[str] = Completion()
    call = begin(answered(answer))
    task = call.promote()
    await asyncio.sleep(0)
    answer.complete("later")
    assert await task == "LATER"


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_a_cancelled_call_runs_to_its_end(turns: int) -> None:
    trace: list[str] = []
    call = begin(answered(Completion(), trace))
    if turns:
        call.promote()
        for _ in range(turns):
            await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    assert trace == ["told the upstream", "after"]
    call.cancel()


async def test_a_call_that_cancels_itself_is_cancelled_at_its_next_wait() -> None:
    found: list[InlineCall[Any]] = []
    trace: list[str] = []

    async def work() -> str:
        found[0].cancel()
        return await answered(Completion(), trace)

    calls = Deadlines()
    call: InlineCall[Any] = InlineCall(calls, coroutine=work())
    found.append(call)
    call.step()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert trace == ["told the upstream", "after"]


async def test_whatever_else_a_call_waits_for_promotes_it() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        first = await future
        await asyncio.sleep(0)
        return first + await answered(second)

    second: Completion[str] = Completion()
    call = begin(work())
    future.set_result("one ")
    await asyncio.sleep(0.01)
    second.complete("two")
    assert await call == "one TWO"


async def test_a_future_that_is_cancelled_before_the_first_step_of_the_task_is_cancelled_itself() -> None:
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> str:
        return await future

    call = begin(work())
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert future.cancelled(), "as a task does with what it waits for"


@pytest.mark.parametrize("start", [begin, asyncio.ensure_future])
async def test_a_cancellation_reaches_a_call_after_what_it_waits_for_has_ended(start: Callable[[Any], Any]) -> None:
    order: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            order.append("what it waits for")

    async def work() -> None:
        try:
            await waited_for
        finally:
            order.append("the call")

    waited_for = asyncio.ensure_future(inner())
    await asyncio.sleep(0)
    call = start(work())
    if start is not begin:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert order == ["what it waits for", "the call"]


@pytest.mark.parametrize("start", [begin, asyncio.ensure_future])
async def test_what_a_call_waits_for_may_survive_the_cancellation(start: Callable[[Any], Any]) -> None:
    async def inner() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "survived"
        raise AssertionError

    async def work() -> str:
        return await waited_for

    waited_for = asyncio.ensure_future(inner())
    await asyncio.sleep(0)
    call = start(work())
    if start is not begin:
        await asyncio.sleep(0)
    call.cancel()
    assert await call == "survived"


async def test_code_that_needs_a_task_asks_for_one() -> None:
    answer: Completion[str] = Completion()

    async def work() -> str:
        assert is_stepping()
        await in_task()
        assert not is_stepping()
        await in_task()
        async with asyncio.timeout(5):
            return await answer

    call = begin(work())
    await asyncio.sleep(0)
    answer.complete("timed")
    assert await call == "timed"


async def test_code_that_forgets_to_ask_for_a_task_fails_and_does_not_take_a_strangers() -> None:
    async def work() -> None:
        async with asyncio.timeout(5):
            await Completion()

    call = begin(work())  # from inside of the task of this test
    with pytest.raises(RuntimeError, match="inside a task"):
        call.result()
    assert asyncio.current_task() is not None


async def test_a_call_that_ends_another_keeps_both_apart() -> None:
    first: Completion[str] = Completion()
    inner = begin(answered(first))

    async def work() -> str:
        first.complete("inner")
        assert is_stepping()
        return "outer"

    assert begin(work()).result() == "outer"
    assert inner.result() == "INNER"
    assert not is_stepping()


async def test_a_failed_completion_raises_where_it_is_awaited_and_keeps_no_traceback() -> None:
    answer: Completion[str] = Completion()

    async def work() -> str:
        try:
            return await answer
        except OSError:
            return "failed"

    call = begin(work())
    answer.fail(OSError("gone"))
    answer.complete("too late")
    assert call.result() == "failed"
    assert answer._error is None


async def test_a_completion_is_awaited_in_a_task_like_a_future() -> None:
    answer: Completion[str] = Completion()
    task = asyncio.create_task(answered(answer))
    await asyncio.sleep(0)
    answer.complete("task")
    assert await task == "TASK"


async def test_waiting_for_a_completion_leaves_its_end_in_place() -> None:
    answer: Completion[str] = Completion()
    waiting = asyncio.create_task(answer.wait())
    await asyncio.sleep(0)
    answer.fail(OSError("gone"))
    await waiting
    with pytest.raises(OSError, match="gone"):
        await answer


async def test_whoever_waits_for_a_call_and_is_cancelled_cancels_it() -> None:
    trace: list[str] = []
    call = begin(answered(Completion(), trace))

    async def wait() -> None:
        await call

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert trace == ["told the upstream", "after"], "it was waited for until it had ended"


async def test_the_task_of_a_call_that_is_over_has_its_result() -> None:
    answer: Completion[str] = Completion()
    answer.complete("over")
    assert await task_of(begin(answered(answer))) == "OVER"
