"""What the limits remember: the theoretical arrival time of each pair of agent and tool.

Behind one small interface, because processes that share a limit have to share this.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final, Protocol

MAX_KEYS: Final = 10_000
"""Pairs of agent and tool that are remembered."""
_SWEEP: Final = 16
"""Old pairs that are looked at when a new one needs room: bounded work per call."""
_ROUNDING: Final = 1e-6
"""Seconds that sums of floats may be off."""

Key = tuple[str, str]


class Arrivals(Protocol):
    """The theoretical arrival times."""

    def take(self, key: Key, now: float, interval: float, tolerance: float) -> float:
        """Let one arrive now, if its time is no more than `tolerance` seconds ahead, and move that by `interval`.

        Returns 0, or the seconds until one may arrive; then nothing has changed.
        """


class MemoryArrivals:
    """Those of one process."""

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
            if wait > _ROUNDING:
                return wait
        else:
            arrival = now
        times[key] = arrival + interval
        times.move_to_end(key)
        return 0.0

    def _make_room(self, now: float) -> None:
        """Forget pairs whose time has passed, for they count as new ones anyway; if there are none, the oldest."""
        oldest = list(islice(self._times.items(), _SWEEP))
        passed = [key for key, arrival in oldest if arrival <= now]
        for key in passed or [oldest[0][0]]:
            del self._times[key]
