"""Counts what happens to calls, in plain Python: a call costs one look-up and a few additions.

The client library of Prometheus writes them out (`exposition.py`). Its own counters cost several times more per call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeAlias, TypeVar, cast

OTHER: Final = "(other)"
"""Label of what is counted together because there are too many different ones."""

KeyT = TypeVar("KeyT", bound=tuple[str, ...])


class Counter(Generic[KeyT]):
    """Counts by labels, of at most `limit` different combinations; further ones are counted as `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.counts: Final[dict[KeyT, int]] = {}

    def add(self, key: KeyT) -> None:
        """Count one more of `key`."""
        counts = self.counts
        if key not in counts and len(counts) >= self._limit:
            key = cast(KeyT, (OTHER,) * len(key))
        counts[key] = counts.get(key, 0) + 1


Durations: TypeAlias = list[float]
"""How long calls took: the calls up to each bound, those above all bounds, and last the seconds of all calls."""
Key: TypeAlias = tuple[str, str | None, str, str]
"""Method, upstream (None for a call that went to none), tool and outcome."""


class Calls:
    """Calls and their durations."""

    def __init__(self, bounds: Sequence[float], limit: int) -> None:
        """`bounds`: ascending, in seconds. `limit`: the most combinations that are counted one by one."""
        self.bounds: Final = tuple(bounds)
        self._limit = limit
        self.series: Final[dict[Key, Durations]] = {}

    def new(self, key: Key) -> Durations:
        """The series of a key that is not in `series` yet.

        The overflow keeps the method and the outcome, of which there are few.
        """
        if len(self.series) >= self._limit:
            key = (key[0], OTHER, OTHER, key[3])
        found = self.series.get(key)
        if found is None:
            found = self.series[key] = [0] * (len(self.bounds) + 1) + [0.0]
        return found
