"""Searches in a thread: each address has its turn, and nothing waits for ever."""

import asyncio
import threading

import pytest
from gateway_security_redact import background
from gateway_security_redact.background import SearchThread


@pytest.fixture
def thread():
    made = SearchThread()
    yield made
    made.close()


class Gate:
    """A search that lasts until it is opened."""

    def __init__(self):
        self.begun, self.opened = threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.opened.wait(20)
        return "found"


async def test_one_address_with_many_searches_delays_only_its_own(thread):
    order, gate = [], Gate()
    first = asyncio.ensure_future(thread.run("greedy", gate))
    assert await asyncio.to_thread(gate.begun.wait, 20)
    others = [asyncio.ensure_future(thread.run("greedy", lambda: order.append("greedy"))) for _ in range(5)]
    await asyncio.sleep(0)
    honest = asyncio.ensure_future(thread.run("honest", lambda: order.append("honest")))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await first == "found"
    await asyncio.gather(honest, *others)
    assert order == ["honest", *["greedy"] * 5]
    assert thread._latest == {}


async def test_a_search_that_takes_too_long_is_given_up(thread, monkeypatch):
    monkeypatch.setattr(background, "PATIENCE", 0.05)
    gate = Gate()
    with pytest.raises(TimeoutError):
        await thread.run("a", gate)
    waiting = [asyncio.ensure_future(thread.run("a", str)) for _ in range(3)]
    assert all(isinstance(it, TimeoutError) for it in await asyncio.gather(*waiting, return_exceptions=True))
    gate.opened.set()
    monkeypatch.setattr(background, "PATIENCE", 20)
    assert await thread.run("a", lambda: 1) == 1
    assert thread._latest == {}


async def test_a_cancelled_search_lets_the_next_one_have_its_turn(thread):
    gate = Gate()
    first = asyncio.ensure_future(thread.run("a", gate))
    second = asyncio.ensure_future(thread.run("a", lambda: 2))
    third = asyncio.ensure_future(thread.run("a", lambda: 3))
    assert await asyncio.to_thread(gate.begun.wait, 20)
    second.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    assert await third == 3
    assert await first == "found"
    assert thread._latest == {}


async def test_what_a_search_raises_reaches_its_caller(thread):
    with pytest.raises(ZeroDivisionError):
        await thread.run("a", lambda: 1 / 0)
    assert await thread.run("a", lambda: 1) == 1


async def test_after_the_end_nothing_runs_any_more(thread):
    assert await thread.run("a", lambda: 1) == 1
    running = [it for it in threading.enumerate() if it.name.startswith("redact")]
    thread.close()
    for it in running:
        it.join(20)
    assert not any(it.is_alive() for it in running)
