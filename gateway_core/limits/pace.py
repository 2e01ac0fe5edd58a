"""The pace at which one source may send: a token bucket that says how long to read nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MAX_PAUSE: Final = 0.5
"""Maximum seconds of one pause, so that the source is still read from time to time."""


class Pace:
    """Counts what a source sends. Up to `burst` may arrive at once, and `rate` per second in the long run."""

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._level = 0.0
        self._at = now()
        self.over_since: float | None = None
        """Time since which the source has been too fast; None if it has not."""

    def pause(self, amount: float) -> float:
        """Count `amount`. Returns the seconds for which nothing more should be read; 0 for none."""
        now = self._now()
        self._level = max(0.0, self._level - (now - self._at) * self._rate) + amount
        self._at = now
        if self._level <= self._burst:
            if self._level < self._burst / 2:
                self.over_since = None
            return 0.0
        if self.over_since is None:
            self.over_since = now
        return min((self._level - self._burst) / self._rate, MAX_PAUSE)

    @property
    def over_for(self) -> float:
        """Seconds for which the source has been too fast."""
        return 0.0 if self.over_since is None else self._now() - self.over_since
