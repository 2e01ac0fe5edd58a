"""The stream of one reader: its pace, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway_core.activity import following
from gateway_core.activity.following import follow
from gateway_core.activity.journal import Journal
from tests.activity.test_journal import call, session


class Watch:
    """Counts readers."""

    def __init__(self) -> None:
        self.readers = 0

    def __call__(self) -> Callable[[], None]:
        self.readers += 1
        return self.leave

    def leave(self) -> None:
        self.readers -= 1


async def test_messages_are_at_least_an_interval_apart_and_carry_all_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    journal = Journal()
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        for _ in range(20):
            call(journal)
        await real(0)

    monkeypatch.setattr(following.asyncio, "sleep", sleep)
    messages = follow(journal, ("call",), None, Watch())
    assert (await anext(messages))[1] == {"events": []}
    for number in range(1, 4):
        seq, changes = await anext(messages)
        assert (len(changes["events"]), len(slept)) == (20, number), "one pause before each message"
        assert seq == journal.last
    assert set(slept) == {following.INTERVAL}
    assert following.INTERVAL >= 0.1
    await messages.aclose()  # type: ignore[attr-defined]


async def test_a_reader_that_takes_nothing_costs_no_more_than_the_rings() -> None:
    journal = Journal(calls=10, others=10)
    messages = follow(journal, ("call", "session"), None, Watch())
    await anext(messages)
    for _ in range(1000):
        call(journal)
        session(journal)
    _, changes = await anext(messages)
    assert len(changes["events"]) == 20
    assert changes["missed"] > 0
    await messages.aclose()  # type: ignore[attr-defined]


async def test_it_watches_until_it_is_closed() -> None:
    watch = Watch()
    messages = follow(Journal(), ("call",), None, watch)
    assert watch.readers == 0
    await anext(messages)
    assert watch.readers == 1
    await messages.aclose()  # type: ignore[attr-defined]
    assert watch.readers == 0


async def test_a_stream_without_calls_sleeps_until_something_happens() -> None:
    journal = Journal()
    messages = follow(journal, ("session",), None, Watch())
    await anext(messages)
    waiting = asyncio.ensure_future(anext(messages))
    async with asyncio.timeout(60):
        while not vars(journal)["_waiting"]:
            await asyncio.sleep(0.01)
        call(journal)
        await asyncio.sleep(0)
        assert not waiting.done(), "calls are not for this reader"
        session(journal)
        _, changes = await waiting
    assert [event.__struct_config__.tag for event in changes["events"]] == ["session"]
    await messages.aclose()  # type: ignore[attr-defined]
