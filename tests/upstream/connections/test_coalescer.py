"""Repeated requests for a key share one task."""

import asyncio

from gateway_core.upstream.connections.coalescer import Coalescer


async def test_requests_during_a_run_cause_one_further_run_of_their_key() -> None:
    runs: list[str] = []
    release = asyncio.Event()

    async def update(key: str) -> None:
        runs.append(key)
        await release.wait()

    coalescer = Coalescer(update, "test")
    for _ in range(5):
        coalescer.ask("a")
        coalescer.ask("b")
        await asyncio.sleep(0)
    assert sorted(runs) == ["a", "b"]
    release.set()
    await asyncio.sleep(0.01)
    assert sorted(runs) == ["a", "a", "b", "b"]
    coalescer.ask("a")
    await asyncio.sleep(0.01)
    assert runs.count("a") == 3


async def test_a_failed_run_does_not_lose_the_request_that_came_during_it() -> None:
    runs: list[str] = []

    async def update(key: str) -> None:
        runs.append(key)
        await asyncio.sleep(0.01)
        if len(runs) == 1:
            raise ZeroDivisionError

    coalescer = Coalescer(update, "test")
    coalescer.ask("a")
    await asyncio.sleep(0)
    coalescer.ask("a")
    async with asyncio.timeout(10):
        while len(runs) < 2:
            await asyncio.sleep(0.01)


async def test_closing_cancels_the_runs_and_forgets_what_is_due() -> None:
    runs: list[str] = []

    async def update(key: str) -> None:
        runs.append(key)
        await asyncio.sleep(60)

    before = asyncio.all_tasks()
    coalescer = Coalescer(update, "test")
    coalescer.ask("a")
    await asyncio.sleep(0)
    coalescer.ask("a")
    coalescer.close()
    await asyncio.sleep(0.01)
    assert runs == ["a"]
    assert asyncio.all_tasks() == before
