"""The settings of limits, and the two kinds of limits: calls per minute and calls per day."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from gateway_core import Globs, PluginConfig
from gateway_security_ratelimit.arrivals import MAX_KEYS, ROUNDING, Arrivals, Key

DAY: Final = 86_400
_SWEEP: Final = 16
"""Number of old counts to examine when a new one needs room; bounds the work per call."""


class Limit(PluginConfig):
    """Limits of calls."""

    rate_limit_per_minute: int | None = Field(default=None, ge=0, description="calls per minute; 0: no limit")
    burst: int | None = Field(default=None, gt=0, description="calls that may come at once")
    calls_per_day: int | None = Field(default=None, ge=0, description="calls per UTC day; 0: no quota")

    @model_validator(mode="after")
    def _burst_has_a_rate(self) -> Self:
        if self.burst is not None and self.rate_limit_per_minute == 0:
            raise ValueError("burst has no effect with rate_limit_per_minute = 0; remove one of the two")
        return self


class Override(Limit):
    """Limits for some agents and tools, in place of the general ones."""

    groups: tuple[str, ...] = Field(default=(), description="groups of agents; without it, all agents")
    tools: Globs = Field(default=Globs(), description="globs of tools; without it, all tools")
    shared: bool = Field(default=False, description="one limit for all these tools together")

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if not self.shared and self.rate_limit_per_minute is self.burst is self.calls_per_day is None:
            raise ValueError("has no limit; give it rate_limit_per_minute, burst, calls_per_day or shared = true")
        return self

    def includes(self, other: Override) -> bool:
        """Whether these limits fit all agents and tools that others fit."""
        groups = not self.groups or (bool(other.groups) and set(other.groups).issubset(self.groups))
        tools = not self.tools or (bool(other.tools) and all(map(self.tools.covers, other.tools)))
        return groups and tools


class AddressLimit(Limit):
    """Limits of the calls of one address."""

    @model_validator(mode="after")
    def _has_its_own_rate(self) -> Self:
        if self.burst is not None and self.rate_limit_per_minute is None:
            raise ValueError("burst has no effect without rate_limit_per_minute")
        return self


class Rate:
    """Calls per minute, by the generic cell rate algorithm."""

    period: Final = "minute"

    def __init__(self, limit: int, burst: int | None, arrivals: Arrivals) -> None:
        self.limit = limit
        self.interval = 60 / limit
        self.burst = burst or limit
        self.tolerance = self.interval * (self.burst - 1)
        self.store: Final = arrivals
        """Where it counts. Checks with one store have the same keys."""

    def wait(self, key: Key, now: float) -> float:
        """Seconds until a call is allowed; 0 if it is now."""
        wait = self.store.arrival(key, now) - now - self.tolerance
        return wait if wait > ROUNDING else 0.0

    def take(self, key: Key, now: float) -> float:
        """Count a call if it is allowed. Returns what `wait` does."""
        return self.store.take(key, now, self.interval, self.tolerance)

    def used(self, who: str, now: float) -> Iterable[Key]:
        """The keys of an agent or address of which not everything is left."""
        return self.store.used(who, now)

    def remaining(self, key: Key, now: float) -> int:
        """Calls that are allowed now."""
        used = self.store.arrival(key, now) - now
        return max(0, math.floor((self.tolerance - used + ROUNDING) / self.interval) + 1)


class Counts:
    """The calls of one UTC day by key, in the memory of one process."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._day = -1
        self._counts: OrderedDict[Key, int] = OrderedDict()

    def left_of_day(self) -> float:
        """Seconds until the next UTC day."""
        return DAY - self._clock() % DAY

    def used(self, key: Key) -> int:
        """Calls of this day."""
        self._begin_day()
        return self._counts.get(key, 0)

    def _begin_day(self) -> None:
        day = int(self._clock() // DAY)
        if day != self._day:
            self._day = day
            self._counts.clear()

    def keys(self, who: str) -> list[Key]:
        """The keys of an agent or address with calls of this day."""
        self._begin_day()
        return [key for key in self._counts if key[0] == who]

    def add(self, key: Key) -> None:
        used = self.used(key)
        if not used and len(self._counts) >= MAX_KEYS:
            oldest = list(islice(self._counts.items(), _SWEEP))
            del self._counts[min(oldest, key=lambda item: item[1])[0]]
        self._counts[key] = used + 1
        self._counts.move_to_end(key)


class Quota:
    """Calls per UTC day."""

    period: Final = "day"

    def __init__(self, limit: int, counts: Counts) -> None:
        self.limit = self.burst = limit
        self.store: Final = counts
        """Where it counts. Checks with one store have the same keys."""

    def wait(self, key: Key, now: float) -> float:
        """Seconds until a call is allowed; 0 if it is now."""
        return self.store.left_of_day() if self.store.used(key) >= self.limit else 0.0

    def take(self, key: Key, now: float) -> float:
        """Count a call. Returns 0."""
        self.store.add(key)
        return 0.0

    def used(self, who: str, now: float) -> Iterable[Key]:
        """The keys of an agent or address of which not everything is left."""
        return self.store.keys(who)

    def remaining(self, key: Key, now: float) -> int:
        """Calls that are allowed today."""
        return max(0, self.limit - self.store.used(key))


Check = Rate | Quota
Whose = Literal["agent", "address"]


def checks(limit: Limit, arrivals: Arrivals, counts: Counts) -> tuple[Check, ...]:
    """The checks that a limit asks for."""
    found: list[Check] = []
    if limit.calls_per_day:
        found.append(Quota(limit.calls_per_day, counts))
    if limit.rate_limit_per_minute:
        found.append(Rate(limit.rate_limit_per_minute, limit.burst, arrivals))
    return tuple(found)
