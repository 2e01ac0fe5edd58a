"""When to stop sending to an upstream, and when to try it again: arithmetic on times, without a clock of its own."""

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
"""Seconds of health after which a lost connection over HTTP is opened again at once, however often."""
LASTING_MAX: Final = 600.0
"""Most seconds between two attempts while a failure cannot heal by itself."""
TIMED_OUT: Final = "timed out"
"""The reason of a failed call whose deadline passed."""
EJECT_CONSECUTIVE: Final = 5
EJECT_SHARE: Final = 0.5
EJECT_MIN_CALLS: Final = 10
EJECT_WINDOW: Final = 60.0
_NUMBERS: Final = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*")
"""What differs between the last words of one failure: times, process ids, addresses."""


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
        """Seconds to wait before the next attempt. `lasting`: the failure does not heal by itself."""
        ceiling = min(LASTING_MAX if lasting else BACKOFF_MAX, BACKOFF_FIRST * 2.0**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng.uniform(ceiling / 2 if lasting else 0.0, ceiling)

    def reset(self) -> None:
        self._failures = 0


class Retries:
    """When one upstream is connected to again, and what its failure is called."""

    def __init__(self, rng: random.Random) -> None:
        self._backoff = Backoff(rng)
        self._last_death = ""
        self._deaths = 0
        """How often in a row the process ended in the same way without having served."""

    def lived(self, seconds: float) -> None:
        """A connection was healthy for so long, and is over."""
        if seconds >= BACKOFF_RESET:
            self._backoff.reset()
            self._last_death = ""

    def may_reconnect(self, healthy: float, *, process: bool) -> bool:
        """Whether to connect again at once after a connection was lost. `process`: that starts a process.

        The first time it may; after that only a server without a process here, whose sessions may be short.
        """
        fresh = self._backoff.fresh and healthy >= BACKOFF_FIRST
        if fresh:
            self._backoff.next()  # the next loss waits
        return fresh or (healthy >= STEADY and not process)

    def after(self, reason: str, *, death: str = "", lasting: bool = False) -> tuple[str, float]:
        """What to call a failure, and the seconds to wait after it.

        `death`: how the process ended, if it did without having served; the same death again does not heal by itself.
        `lasting`: this failure does not heal by itself in any case.
        """
        death = _NUMBERS.sub("#", death)
        self._deaths = self._deaths + 1 if death and death == self._last_death else 1
        self._last_death = death
        if self._deaths > 1:
            reason = f"{reason}, {self._deaths} times in a row"
        return reason, self._backoff.next(lasting=lasting or self._deaths > 1)


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

    def ejected(self) -> int:
        """The upstream is ejected: earlier calls count no more. Returns how many times it was ejected so far."""
        self.clear()
        self.ejections += 1
        return self.ejections

    def clear(self) -> None:
        self.seen.clear()
        self.consecutive = 0
