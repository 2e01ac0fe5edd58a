"""A rate limiter for log lines, by key."""

from __future__ import annotations

import time
from typing import Final

PERIOD: Final = 60.0
"""Seconds between two lines of one key."""
MAX_KEYS: Final = 256


class Sparing:
    """Admits at most one line per key in `PERIOD` seconds, for at most `MAX_KEYS` keys at a time."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        """Key -> time of its last line on the monotonic clock, oldest first."""

    def due(self, key: str) -> bool:
        """Whether to write the line now."""
        now = time.monotonic()
        while self._last and now - next(iter(self._last.values())) >= PERIOD:
            del self._last[next(iter(self._last))]
        if key in self._last or len(self._last) >= MAX_KEYS:
            return False
        self._last[key] = now
        return True
