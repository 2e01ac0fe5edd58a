"""Outlier detection and backoff: when to stop sending to an upstream, and when to retry. Callers pass the time."""

from __future__ import annotations

import random
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

BACKOFF_FIRST: Final = 1.0
BACKOFF_MAX: Final = 60.0
BACKOFF_RESET: Final = 60.0
"""Seconds of health after which the next failure starts at `BACKOFF_FIRST` again."""
STEADY: Final = 10.0
"""Seconds of health after which a lost HTTP connection is reopened at once, any number of times."""
LASTING_MAX: Final = 600.0
"""Maximum seconds between two attempts after a permanent failure, one that only an operator can fix."""
TIMED_OUT: Final = "timed out"
"""The reason of a failed call whose deadline passed."""
EJECT_CONSECUTIVE: Final = 5
EJECT_SHARE: Final = 0.5
EJECT_MIN_CALLS: Final = 10
EJECT_WINDOW: Final = 60.0
_NUMBERS: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
"""Parts that vary between two reports of the same failure: times, process ids, addresses."""


class Backoff:
    """Exponential backoff with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter")."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._failures = 0

    @property
    def fresh(self) -> bool:
        """Whether nothing has failed since the last `reset`."""
        return self._failures == 0

    def next(self, *, lasting: bool = False) -> float:
        """Seconds to wait before the next attempt. `lasting`: the failure is permanent."""
        ceiling = min(LASTING_MAX if lasting else BACKOFF_MAX, BACKOFF_FIRST * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng.uniform(ceiling / 2 if lasting else 0.0, ceiling)

    def reset(self) -> None:
        self._failures = 0


class ReconnectPolicy:
    """Decides when to reconnect to one upstream, and how to report its failure."""

    def __init__(self, rng: random.Random) -> None:
        self._backoff = Backoff(rng)
        self._last_death = ""
        self._deaths = 0
        """How many times in a row the process ended in the same way without answering a request."""

    def lived(self, seconds: float) -> None:
        """Record that a connection ended after `seconds` of health."""
        if seconds >= BACKOFF_RESET:
            self._backoff.reset()
            self._last_death = ""

    def may_reconnect(self, healthy: float, *, process: bool) -> bool:
        """Whether to reconnect at once after a connection was lost. `process`: reconnecting starts a process.

        Allowed for the first loss after at least `BACKOFF_FIRST` seconds of health. Later only without a process and
        after `STEADY` seconds of health, because HTTP servers may close sessions early.
        """
        fresh = self._backoff.fresh and healthy >= BACKOFF_FIRST
        if fresh:
            self._backoff.next()  # the next loss waits
        return fresh or (healthy >= STEADY and not process)

    def after(self, reason: str, *, death: str = "", lasting: bool = False) -> tuple[str, float]:
        """The text that reports a failure, and the seconds to wait after it.

        `death`: how the process ended, if it ended before it answered a request. The same death twice in a row counts
        as permanent. `lasting`: the failure counts as permanent in any case.
        """
        death = _NUMBERS.sub("#", death)
        self._deaths = self._deaths + 1 if death and death == self._last_death else 1
        self._last_death = death
        if self._deaths > 1:
            reason = f"{reason}, {self._deaths} times in a row"
        return reason, self._backoff.next(lasting=lasting or self._deaths > 1)


@dataclass(slots=True)
class PassiveChecks:
    """Outlier detection for one upstream. `seen`: recent calls as (loop time, whether the transport failed)."""

    seen: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=1000))
    consecutive: int = 0
    ejections: int = 0

    def succeeded(self, now: float) -> None:
        """Record a call that got an answer."""
        self.consecutive = 0
        self.seen.append((now, False))

    def failed(self, now: float) -> bool:
        """Record a call that got no answer. Returns whether the upstream must be ejected."""
        self.consecutive += 1
        self.seen.append((now, True))
        while self.seen[0][0] < now - EJECT_WINDOW:
            self.seen.popleft()
        failures = sum(1 for _, bad in self.seen if bad)
        too_many = len(self.seen) >= EJECT_MIN_CALLS and failures >= EJECT_SHARE * len(self.seen)
        return self.consecutive >= EJECT_CONSECUTIVE or too_many

    def ejected(self) -> int:
        """Record an ejection and forget earlier calls. Returns the number of ejections so far."""
        self.clear()
        self.ejections += 1
        return self.ejections

    def clear(self) -> None:
        self.seen.clear()
        self.consecutive = 0
