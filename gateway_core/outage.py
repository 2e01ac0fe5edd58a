"""When to stop sending to an upstream, and when to try it again: arithmetic on times, without a clock of its own."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Final

BACKOFF_FIRST: Final = 1.0
BACKOFF_MAX: Final = 60.0
EJECT_CONSECUTIVE: Final = 5
EJECT_SHARE: Final = 0.5
EJECT_MIN_CALLS: Final = 10
EJECT_WINDOW: Final = 60.0


class Backoff:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait before the next attempt."""
        ceiling = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        self._failures = 0


@dataclass(slots=True)
class PassiveChecks:
    """What calls met at one upstream: (loop time, whether the transport failed)."""

    seen: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=1000))
    consecutive: int = 0
    ejections: int = 0

    def succeeded(self, now: float) -> None:
        """Take one call into account that got its answer."""
        self.consecutive = 0
        self.seen.append((now, False))

    def failed(self, now: float) -> bool:
        """Take one into account that did not; True when it is the one that ejects."""
        self.consecutive += 1
        self.seen.append((now, True))
        while self.seen[0][0] < now - EJECT_WINDOW:
            self.seen.popleft()
        failures = sum(1 for _, bad in self.seen if bad)
        too_many = len(self.seen) >= EJECT_MIN_CALLS and failures >= EJECT_SHARE * len(self.seen)
        return self.consecutive >= EJECT_CONSECUTIVE or too_many

    def clear(self) -> None:
        self.seen.clear()
        self.consecutive = 0
