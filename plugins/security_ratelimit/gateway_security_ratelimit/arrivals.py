"""The state of the rate limits: the theoretical arrival time of each pair of agent and tool.

A small interface hides the store, because processes that share a limit must share the store.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple, Protocol

MAX_KEYS: Final = 10_000
"""Maximum number of pairs of agent and tool in memory."""
_SWEEP: Final = 16
"""Number of old pairs to examine when a new pair needs room; bounds the work per call."""
ROUNDING: Final = 1e-6
"""Tolerance for floating-point errors, in seconds."""


class Unlisted(NamedTuple):
    """The tools that no list shows: they share a limit, because agents choose their names.

    No text stands for them, because each text can be the name of a tool.
    """

    rule: int
    """The number of the rule that applies to them."""


Key = tuple[str, str | int | Unlisted]
"""Agent or address, and a tool, the number of a limit that several tools share, or the tools that no list shows."""


class Arrivals(Protocol):
    """A store of theoretical arrival times."""

    def take(self, key: Key, now: float, interval: float, tolerance: float) -> float:
        """Allow a call if its arrival time is at most `tolerance` seconds after `now`, and add `interval` to it.

        Returns 0 if allowed, or the seconds until a call would be allowed; the store then stays unchanged.
        """

    def arrival(self, key: Key, now: float) -> float:
        """The arrival time, at least `now`."""

    def used(self, who: str, now: float) -> Iterable[Key]:
        """The keys of an agent or address whose arrival time lies after `now`."""


class MemoryArrivals:
    """A store in the memory of one process."""

    def __init__(self) -> None:
        self._times: OrderedDict[Key, float] = OrderedDict()

    def take(self, key: Key, now: float, interval: float, tolerance: float) -> float:
        times = self._times
        arrival = times.get(key)
        if arrival is None:
            if len(times) >= MAX_KEYS:
                self._make_room(now)
            arrival = now
        elif arrival > now:
            wait = arrival - now - tolerance
            if wait > ROUNDING:
                return wait
        else:
            arrival = now
        times[key] = arrival + interval
        times.move_to_end(key)
        return 0.0

    def arrival(self, key: Key, now: float) -> float:
        return max(now, self._times.get(key, now))

    def used(self, who: str, now: float) -> Iterable[Key]:
        return [key for key, arrival in self._times.items() if key[0] == who and arrival > now]

    def _make_room(self, now: float) -> None:
        """Delete pairs whose time has passed, since they equal new pairs; without any, the one that is next to it."""
        oldest = list(islice(self._times.items(), _SWEEP))
        passed = [key for key, arrival in oldest if arrival <= now]
        for key in passed or [min(oldest, key=lambda item: item[1])[0]]:
            del self._times[key]
