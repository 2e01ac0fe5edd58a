"""Who waits for a server that does not run, and what keeps one running."""

from __future__ import annotations

import asyncio

from gateway_core.upstream.connections.demand import Demand
from tests.upstream.watch_kit import HandClock


async def asked(demand: Demand) -> asyncio.Task[None]:
    waiting = asyncio.create_task(demand.attempt())
    await asyncio.sleep(0)
    return waiting


async def test_all_who_wait_share_one_attempt() -> None:
    demand = Demand(HandClock())
    assert not demand.exists
    first, second = await asked(demand), await asked(demand)
    await demand.wait()
    demand.attempted()
    await asyncio.gather(first, second)
    assert not demand.waiting


async def test_a_later_wait_is_for_a_later_attempt() -> None:
    demand = Demand(HandClock())
    await asked(demand)
    demand.attempted()
    again = await asked(demand)
    await asyncio.sleep(0.01)
    assert not again.done()
    demand.attempted()
    await again


async def test_one_who_gives_up_ends_the_wait_of_no_other() -> None:
    demand = Demand(HandClock())
    first, second = await asked(demand), await asked(demand)
    first.cancel()
    await asyncio.wait([first])
    assert demand.waiting
    demand.attempted()
    await second


async def test_a_server_is_held_for_some_time() -> None:
    clock = HandClock()
    demand = Demand(clock)
    demand.hold(60.0)
    demand.hold(5.0)
    clock.turn(59.0)
    assert demand.exists
    assert not demand.waiting
    clock.turn(2.0)
    assert not demand.exists


async def test_nothing_waits_for_a_server_that_is_closed() -> None:
    demand = Demand(HandClock())
    waiting = await asked(demand)
    demand.close()
    await waiting
    await demand.attempt()
