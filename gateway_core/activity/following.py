"""The stream of events for one reader: at most ten messages a second, each with everything that is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, NotRequired, TypedDict

from gateway_core.activity.events import AnyEvent
from gateway_core.activity.journal import CALL, Journal

INTERVAL: Final = 0.1
"""Least seconds between two messages."""


class Changes(TypedDict):
    """One message of the event stream."""

    events: list[AnyEvent]
    """Oldest first."""
    missed: NotRequired[int]
    """Number of events before these that are not in the stream, at most; absent if there are none."""


async def follow(
    journal: Journal, types: Collection[str], after: int | None, watch: Callable[[], Callable[[], None]]
) -> AsyncIterator[tuple[int, Changes]]:
    """Messages, each with the number from which a reader continues. The first one comes at once.

    `after`: the number of the last event that the reader knows; None: it wants only what happens from now on. `watch`
    says that the reader watches, and returns the function that ends that.
    """
    leave = watch()
    try:
        seq = journal.last if after is None else after
        first = True
        while True:
            news = journal.since(seq, types)
            seq = news.last
            if news.events or news.missed or first:
                first = False
                changes: Changes = {"events": news.events}
                if news.missed:
                    changes["missed"] = news.missed
                yield seq, changes
                await asyncio.sleep(INTERVAL)
            if journal.last == seq:
                await journal.wait(INTERVAL if CALL in types else None)
    finally:
        leave()
