"""Turns at work that one caller does at a time."""

import asyncio
import re
import time

import pytest

from gateway_core.errors import TryLater
from gateway_core.generations.turns import RETRY_AFTER, Turns, in_seconds


async def test_a_wait_that_is_too_long_ends_with_the_name_of_the_turn_in_progress_and_its_begin() -> None:
    turns = Turns()
    async with turns.turn("an edit", in_seconds(60)):
        assert turns.taken
        begun = time.strftime("%Y-%m-%dT%H:", time.localtime())
        with pytest.raises(
            TryLater, match=rf"^an edit has been in progress since {re.escape(begun)}.* \(\d s\)"
        ) as found:
            async with turns.turn("a reload", in_seconds(0.01)):
                pass
        assert found.value.retry_after == RETRY_AFTER
    assert not turns.taken
    async with turns.turn("a reload", in_seconds(60)):
        with pytest.raises(TryLater, match=r"^a reload has been"):
            async with turns.turn("an edit", in_seconds(0.0)):
                pass


async def test_the_end_of_the_turn_in_progress_ends_the_wait_for_it_also_if_another_one_follows() -> None:
    turns, go_on = Turns(), [asyncio.Event(), asyncio.Event()]
    await turns.ended()

    async def work(number: int) -> None:
        async with turns.turn(f"work {number}", in_seconds(60)):
            await go_on[number].wait()

    working = [asyncio.ensure_future(work(number)) for number in range(2)]
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(turns.ended())
    await asyncio.sleep(0.01)
    assert not waiting.done()
    go_on[0].set()
    async with asyncio.timeout(60):
        await waiting
    assert working[0].done()
    assert turns.taken
    go_on[1].set()
    await asyncio.gather(*working)


async def test_turns_are_given_in_order_and_a_failure_ends_one() -> None:
    turns, order = Turns(), []

    async def work(number: int) -> None:
        async with turns.turn(f"work {number}", in_seconds(60)):
            order.append(number)
            await asyncio.sleep(0)
            raise ValueError

    found = await asyncio.gather(*map(work, range(4)), return_exceptions=True)
    assert order == [0, 1, 2, 3]
    assert {type(one) for one in found} == {ValueError}
    assert not turns.taken
