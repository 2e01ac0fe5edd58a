"""The deadlines of calls in flight: on one timer, movable, bounded."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway_core.inline.deadlines import Deadline, Deadlines
from gateway_core.inline.driver import Completion, InlineCall


async def bounded(calls: Deadlines, seconds: float, work: Callable[[], Coroutine[Any, Any, object]]) -> str:
    """How a call with a deadline ends: "done", or "late"."""

    async def run() -> str:
        try:
            await work()
        except asyncio.CancelledError:
            if not call.timed_out():
                raise
            return "late"
        finally:
            call.close_deadline()
            call.end()
        return "done"

    call: InlineCall[str] = InlineCall(calls, coroutine=run())
    call.move(asyncio.get_running_loop().time() + seconds)
    call.begin()
    call.step()
    return await call


async def test_each_call_ends_at_its_own_deadline_in_whatever_order_they_were_set() -> None:
    calls, ended = Deadlines(), []

    async def one(seconds: float) -> None:
        assert await bounded(calls, seconds, lambda: Completion().wait()) == "late"
        ended.append(seconds)

    await asyncio.gather(*(one(seconds) for seconds in (1.2, 0.2, 0.8, 0.4)))
    assert ended == [0.2, 0.4, 0.8, 1.2]
    assert not calls.running


async def test_a_call_that_is_in_time_is_never_cancelled_afterwards() -> None:
    calls = Deadlines()
    assert await bounded(calls, 0.03, lambda: asyncio.sleep(0)) == "done"
    await asyncio.sleep(0.06)


async def test_a_cancellation_that_comes_together_with_the_deadline_stays_one() -> None:
    answer: Completion[str] = Completion()

    async def run() -> None:
        try:
            await answer
        except asyncio.CancelledError:
            assert not call.timed_out()
            raise

    call: InlineCall[None] = InlineCall(Deadlines(), coroutine=run())
    call.step()
    call.lapse()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_deadline_moves_both_ways() -> None:
    calls, loop = Deadlines(), asyncio.get_running_loop()
    order = []

    async def moved(name: str, seconds: float, to: float) -> None:
        async def run() -> None:
            with pytest.raises(asyncio.CancelledError):
                await Completion()
            assert call.timed_out()
            order.append(name)

        call: InlineCall[None] = InlineCall(calls, coroutine=run())
        started = loop.time()
        call.move(started + seconds)
        call.begin()
        call.step()
        loop.call_later(0.01, call.move, started + to)
        await call

    await asyncio.gather(moved("later", 0.5, 1.5), moved("earlier", 60, 0.8))
    assert order == ["earlier", "later"]


async def test_a_deadline_that_was_closed_moves_no_more() -> None:
    call: InlineCall[str] = InlineCall(Deadlines(), when=60.0)
    call.begin()
    call.close_deadline()
    call.move(1.0)
    assert call.when == 60.0
    assert not call.passed


async def test_the_timer_does_not_wait_for_closed_deadlines() -> None:
    """Their calls still run, for example while plugins handle the results."""
    calls, loop = Deadlines(), asyncio.get_running_loop()
    closed, other = InlineCall(calls, when=loop.time() + 0.01), Deadline(calls, when=loop.time() + 60.0)
    closed.begin()
    other.begin()
    closed.close_deadline()
    await asyncio.sleep(0.05)
    assert closed in calls.running
    assert calls.fires == other.when


class Clock:
    """The part of an event loop that deadlines use, with a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    turned = Clock()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: turned)
    return turned


def deadline(**settings: Any) -> Deadline:
    return Deadline(Deadlines(), None, **{"started": 1000.0, "when": 1060.0, "longest": 100.0, **settings})


def test_progress_extends_a_deadline_up_to_the_hard_limit(clock: Clock) -> None:
    it = deadline()
    clock.now = 1030.0
    it.extend()
    assert it.when == 1090.0
    clock.now = 1080.0
    it.extend()
    assert it.when == 1100.0


def test_progress_never_shortens_a_deadline_and_revives_none(clock: Clock) -> None:
    it = deadline(idle_limit=10.0)
    it.extend()
    assert it.when == 1060.0
    clock.now = 1060.0
    it.extend()
    assert it.when == 1060.0


def test_the_timeout_of_an_upstream_replaces_the_default_one(clock: Clock) -> None:
    it = deadline()
    it.limit(5.0)
    assert (it.when, it.idle_limit) == (1005.0, 5.0)
    it.limit(500.0)
    assert (it.when, it.idle_limit) == (1100.0, 500.0)


def test_the_time_that_an_agent_takes_does_not_count(clock: Clock) -> None:
    it = deadline(idle_limit=20.0)
    it.suspend(300.0)
    assert it.when == 1320.0, "above the hard limit"
    clock.now = 1200.0
    it.resume(200.0)
    assert (it.when, it.hard_limit) == (1220.0, 1300.0)


def test_an_expired_deadline_is_due_now(clock: Clock) -> None:
    it = deadline()
    it.expire()
    assert it.when == clock.now
