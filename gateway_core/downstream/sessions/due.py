"""Keys with a time each; those whose time has come are found without a look at the others."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Due(Generic[K]):
    """Keys by the time at which each is due, in seconds on any clock."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[K, float]] = {}
        """The keys that are due in one second, with their times."""
        self._order: list[int] = []
        """A heap of the keys of `_seconds`. Others in it are dropped when they outnumber these."""
        self._second_of: dict[K, int] = {}

    def __len__(self) -> int:
        return len(self._second_of)

    def put(self, key: K, when: float) -> None:
        """Add a key, or replace its time. A key with an infinite time is forgotten."""
        self.remove(key)
        if when == math.inf:
            return
        second = int(when)
        keys = self._seconds.get(second)
        if keys is None:
            keys = self._seconds[second] = {}
            heapq.heappush(self._order, second)
            if len(self._order) > 2 * len(self._seconds):
                self._order = list(self._seconds)
                heapq.heapify(self._order)
        keys[key] = when
        self._second_of[key] = second

    def remove(self, key: K) -> None:
        """Remove a key; no effect if it is unknown."""
        second = self._second_of.pop(key, None)
        if second is None:
            return
        keys = self._seconds[second]
        del keys[key]
        if not keys:
            del self._seconds[second]

    def take(self, now: float) -> list[K]:
        """Remove and return the keys that are due at `now`."""
        found: list[K] = []
        while self._order and self._order[0] <= now:
            second = heapq.heappop(self._order)
            keys = self._seconds.pop(second, {})
            later = {key: when for key, when in keys.items() if when > now}
            for key in keys.keys() - later.keys() if later else keys:
                del self._second_of[key]
                found.append(key)
            if later:
                self._seconds[second] = later
                heapq.heappush(self._order, second)
                break
        return found
