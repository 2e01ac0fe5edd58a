"""How many requests an upstream works on at a time, and who waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway_core.api import Principal
from gateway_core.errors import Busy
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.upstream.connections.limiter import ConcurrencyLimiter


def an_exchange() -> Exchange:
    return Exchange(Agent(Principal("a"), "modern", "2026-07-28"), "tools/call")


@contextlib.asynccontextmanager
async def held_by(limiter: ConcurrencyLimiter, exchange: Exchange) -> AsyncIterator[None]:
    """Hold a place, as a call does."""
    await limiter.acquire()
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
        await limiter.acquire()
    assert refused.value.retry_after == 1.0
    held[2].cancel()
    await asyncio.sleep(0)
    release.set()
    await asyncio.gather(*held[:2])
    await limiter.acquire()  # nobody has it any more


async def test_a_place_that_is_lent_serves_others_and_is_taken_back_at_once() -> None:
    limiter = ConcurrencyLimiter(1, 2, "full")
    exchange = an_exchange()
    async with held_by(limiter, exchange):
        exchange.leave()
        await limiter.acquire()
        exchange.rejoin(an_exchange())  # without waiting: there are two now
        third = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        limiter.release()
        await asyncio.sleep(0)
        assert not third.done(), "one place is still more than taken"
    await asyncio.wait_for(third, 1)
    assert exchange.held == ()


async def test_a_place_that_is_handed_over_to_somebody_who_was_cancelled_goes_to_the_next() -> None:
    limiter = ConcurrencyLimiter(1, 2, "full")
    await limiter.acquire()
    first, second = asyncio.create_task(limiter.acquire()), asyncio.create_task(limiter.acquire())
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
    await asyncio.wait_for(limiter.acquire(), 1)
