"""How many requests an upstream works on at a time, and who waits."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway_core.api import Principal
from gateway_core.errors import Busy
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.exchange.unanswered import Unanswered
from gateway_core.inline.deadlines import Deadline, Deadlines
from gateway_core.upstream.connections import limiter as module
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter
from tests.upstream.inline_kit import World, ended

ANYONE = Principal("a")
DEAF = Path(__file__).parents[1] / "servers" / "deaf.py"


def an_exchange(principal: Principal = ANYONE) -> Exchange:
    return Exchange(Agent(principal, "modern", "2026-07-28"), "tools/call")


@contextlib.asynccontextmanager
async def held_by(limiter: ConcurrencyLimiter, exchange: Exchange) -> AsyncIterator[None]:
    """Hold a place, as a call does."""
    await limiter.acquire(ANYONE)
    exchange.hold(limiter)
    try:
        yield
    finally:
        exchange.let_go(limiter)


async def test_places_bound_what_is_in_flight_and_what_waits() -> None:
    limiter = ConcurrencyLimiter(1, 2, "full")
    release = asyncio.Event()

    async def hold() -> None:
        async with held_by(limiter, an_exchange()):
            await release.wait()

    held = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(Busy) as refused:
        await limiter.acquire(ANYONE)
    assert refused.value.retry_after == 1.0
    held[2].cancel()
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*held[:2])
    await limiter.acquire(ANYONE)  # the slot is free again


async def test_a_place_that_is_lent_serves_others_and_is_taken_back_at_once() -> None:
    limiter = ConcurrencyLimiter(1, 2, "full")
    exchange = an_exchange()
    async with held_by(limiter, exchange):
        exchange.leave()
        await limiter.acquire(ANYONE)
        exchange.rejoin(an_exchange())  # without waiting: there are two now
        third = asyncio.create_task(limiter.acquire(ANYONE))
        await asyncio.sleep(0)
        limiter.release()
        await asyncio.sleep(0)
        assert not third.done(), "one place is still more than taken"
    await asyncio.wait_for(third, 1)
    assert exchange.held == ()


async def test_a_place_that_is_handed_over_to_a_cancelled_call_goes_to_the_next() -> None:
    limiter = ConcurrencyLimiter(1, 2, "full")
    await limiter.acquire(ANYONE)
    first, second = asyncio.create_task(limiter.acquire(ANYONE)), asyncio.create_task(limiter.acquire(ANYONE))
    await asyncio.sleep(0)
    limiter.release()
    first.cancel()
    await asyncio.wait_for(second, 1)


async def test_many_who_are_cancelled_at_once_are_all_cancelled_and_leave_no_trace() -> None:
    limiter = ConcurrencyLimiter(1, 8, "full")
    release = asyncio.Event()

    async def hold() -> None:
        async with held_by(limiter, an_exchange()):
            await release.wait()

    held = [asyncio.create_task(hold()) for _ in range(4)]
    await asyncio.sleep(0)
    for task in held:
        task.cancel()
    ended = await asyncio.gather(*held, return_exceptions=True)
    assert [type(end) for end in ended] == [asyncio.CancelledError] * 4
    await asyncio.wait_for(limiter.acquire(ANYONE), 1)


# -- whose turn it is -------------------------------------------------------------------------------------------


def waiting(limiter: ConcurrencyLimiter, principal: Principal, number: int) -> list["asyncio.Task[None]"]:
    return [asyncio.create_task(limiter.acquire(principal)) for _ in range(number)]


async def test_principals_take_turns_however_many_calls_one_has_waiting() -> None:
    limiter = ConcurrencyLimiter(1, 20, "full")
    await limiter.acquire(ANYONE)
    flood = waiting(limiter, Principal("flood", address="10.0.0.1"), 10)
    await asyncio.sleep(0)
    other = waiting(limiter, Principal("other", address="10.0.0.1"), 1)
    far = waiting(limiter, Principal("far", address="10.0.0.2"), 1)
    await asyncio.sleep(0)
    for _ in range(3):
        limiter.release()
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*other, *far), 1)
    assert sum(task.done() for task in flood) == 1
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_a_full_queue_drops_the_newest_call_of_the_one_with_most() -> None:
    limiter = ConcurrencyLimiter(1, 4, "full")
    await limiter.acquire(ANYONE)
    flood = waiting(limiter, Principal("flood"), 4)
    await asyncio.sleep(0)
    other = waiting(limiter, Principal("other"), 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in flood] == [False, False, False, True]
    with pytest.raises(Busy, match="full"):
        await flood[3]
    with pytest.raises(Busy, match="full"):
        await limiter.acquire(Principal("flood"))
    for _ in range(2):
        limiter.release()
        await asyncio.sleep(0)
    await asyncio.wait_for(other[0], 1)
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert len(limiter._waiting) == 0


async def test_one_principal_may_use_the_whole_queue_while_no_other_wants_it() -> None:
    limiter = ConcurrencyLimiter(1, 4, "full")
    await limiter.acquire(ANYONE)
    alone = waiting(limiter, ANYONE, 4)
    await asyncio.sleep(0)
    for _ in alone:
        limiter.release()
    await asyncio.wait_for(asyncio.gather(*alone), 1)


# -- calls that were given up -----------------------------------------------------------------------------------


async def given_up(limiter: ConcurrencyLimiter, principal: Principal = ANYONE, hard: float = 300.0) -> Unanswered:
    """A call that was sent and cancelled; its slot is kept."""
    exchange, unanswered = an_exchange(principal), Unanswered()
    now = asyncio.get_running_loop().time()
    exchange.begin(Deadline(Deadlines(), started=now, when=now + 60.0, longest=hard), 1.0, 1)
    async with contextlib.AsyncExitStack() as stack:
        await limiter.acquire(principal)
        exchange.hold(limiter)
        stack.callback(exchange.let_go, limiter)
        exchange.give_up(unanswered)
        limiter.keep(exchange)
    return unanswered


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "connection lost"])
async def test_a_given_up_call_keeps_its_slot_until_it_is_over(answered: bool) -> None:
    limiter = ConcurrencyLimiter(1, 4, "full")
    unanswered = await given_up(limiter)
    assert not limiter.acquire_now()
    next_one = asyncio.create_task(limiter.acquire(ANYONE))
    await asyncio.sleep(0.05)
    assert not next_one.done()
    unanswered.end(answered=answered)
    await asyncio.wait_for(next_one, 1)
    limiter.release()
    assert limiter.acquire_now()
    assert limiter._taken == 1


async def test_a_server_that_answers_nothing_has_its_slot_back_after_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.05)
    limiter = ConcurrencyLimiter(1, 4, "full")
    unanswered = await given_up(limiter)
    await asyncio.wait_for(limiter.acquire(ANYONE), 5)
    unanswered.end(answered=False)
    assert limiter._taken == 1, "its slot was released once"


async def test_a_server_that_answered_late_keeps_slots_until_the_hard_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.02)
    limiter = ConcurrencyLimiter(1, 4, "full")
    late = await given_up(limiter)
    await asyncio.sleep(0.05)
    late.end(answered=True)
    await given_up(limiter, hard=0.3)
    begun = asyncio.get_running_loop().time()
    await asyncio.wait_for(limiter.acquire(ANYONE), 5)
    assert asyncio.get_running_loop().time() - begun > 0.2


async def test_who_gives_up_many_calls_waits_and_no_other() -> None:
    limiter = ConcurrencyLimiter(8, 8, "full")
    flood = Principal("flood", address="10.0.0.1")
    kept = [await given_up(limiter, flood) for _ in range(4)]
    with pytest.raises(Busy, match="cancelled") as refused:
        await limiter.acquire(flood)
    assert refused.value.retry_after is not None
    assert 4.0 < refused.value.retry_after <= module.GRACE
    kept += [await given_up(limiter, Principal(name, address="10.0.0.1")) for name in ("x", "y")]
    with pytest.raises(Busy, match="cancelled"):
        await limiter.acquire(Principal("z", address="10.0.0.1"))
    await asyncio.wait_for(limiter.acquire(Principal("z", address="10.0.0.2")), 1)
    for unanswered in kept:
        unanswered.end(answered=False)
    await asyncio.wait_for(limiter.acquire(flood), 1)
    assert limiter.acquire_now()


async def test_cancelled_calls_of_a_server_that_works_on_never_exceed_its_limit() -> None:
    world = World(None, upstream={"args": (str(DEAF),), "max_in_flight": 4})
    world.health.start()
    try:
        await world.health.wait_first_attempts(15)
        for _ in range(30):
            calls = [world.begin("work", seconds=1.0) for _ in range(5)]
            await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
        async with asyncio.timeout(20):
            while world.upstream.limiter._taken:
                await asyncio.sleep(0.05)
        answer = await ended(world.begin("peak"))
    finally:
        await world.health.stop()
        await world.pool.close()
    assert json.loads(answer.raw)["content"][0]["text"] in {"2", "3", "4"}
