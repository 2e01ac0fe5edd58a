"""Keeps the last events.

Readers have no buffers: each knows the number of the event that it has read last. Calls have their own ring, so
that many calls do not push out what is rare.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Collection
from typing import Final, TypedDict, TypeVar

from gateway_core.activity.events import AnyEvent, EndedCall, Event
from gateway_core.api import Step

E = TypeVar("E", bound=Event)

CALL: Final = "call"
MAX_CALLS: Final = 5000
"""Ended calls that are kept."""
MAX_OTHERS: Final = 2000
"""Other events that are kept."""
MAX_NEW_CALLS: Final = 200
"""Calls that one look returns: the latest ones."""


class Stamp(TypedDict):
    """What all events have."""

    seq: int
    at: float


class News:
    """What a reader has not read yet."""

    __slots__ = ("events", "last", "missed")

    def __init__(self, events: list[AnyEvent], missed: int, last: int) -> None:
        self.events = events
        self.missed = missed
        """Number of events that the reader does not get any more, at most."""
        self.last = last
        """The number of the last event, which the next look continues from."""


class Journal:
    """The events of one gateway. Not for several threads."""

    def __init__(self, calls: int = MAX_CALLS, others: int = MAX_OTHERS) -> None:
        # Microseconds since the epoch: a reader of an earlier process then goes on with the events of this one.
        self.first: Final = time.time_ns() // 1000
        """All events have higher numbers."""
        self.number: Final = itertools.count(self.first + 1).__next__
        """Returns the number for an event that is to be added next."""
        self.calls: Final = deque[EndedCall](maxlen=calls)
        """The ended calls. To add one is all that a call costs: it wakes no reader."""
        self.steps: Final = deque[tuple[str, tuple[Step, ...]]](maxlen=calls)
        """The ids of ended calls that were measured, and their steps. No event has these."""
        self._others: Final = deque[AnyEvent](maxlen=others)
        self._waiting: list[asyncio.Future[None]] = []

    def steps_of(self, exchange_id: str) -> tuple[Step, ...]:
        """The steps of an ended call; none if it was not measured."""
        return next((steps for known, steps in reversed(self.steps) if known == exchange_id), ())

    @property
    def last(self) -> int:
        """The number of the last event."""
        return max(ring[-1].seq if ring else self.first for ring in (self.calls, self._others))

    def stamp(self) -> Stamp:
        """Number and time for an event that happens now."""
        return {"seq": self.number(), "at": time.time()}

    def add(self, event: AnyEvent) -> None:
        """Add an event that is no call, and wake its readers."""
        self._others.append(event)
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def since(self, seq: int, types: Collection[str]) -> News:
        """What a reader of `types` that knows everything up to `seq` has not read."""
        last = self.last
        seq = max(seq, self.first) if seq <= last else self.first
        missed, found = 0, list[AnyEvent]()
        if any(kind != CALL for kind in types):
            found += [event for event in _after(self._others, seq) if event.__struct_config__.tag in types]
            missed += _dropped(self._others, seq)
        if CALL in types:
            calls = _after(self.calls, seq)
            missed += _dropped(self.calls, seq) + max(0, len(calls) - MAX_NEW_CALLS)
            found += calls[-MAX_NEW_CALLS:]
            found.sort(key=lambda event: event.seq)
        return News(found, missed, last)

    async def wait(self, seconds: float | None) -> None:
        """Wait for the next event that is no call, `seconds` at most."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait({future}, timeout=seconds)
        finally:
            if future in self._waiting:
                self._waiting.remove(future)


def _after(ring: deque[E], seq: int) -> list[E]:
    """The events with higher numbers, oldest first."""
    found: list[E] = []
    for event in reversed(ring):
        if event.seq <= seq:
            break
        found.append(event)
    found.reverse()
    return found


def _dropped(ring: deque[E], seq: int) -> int:
    """The highest possible number of events after `seq` that the ring has dropped."""
    return max(0, ring[0].seq - seq - 1) if len(ring) == ring.maxlen else 0
