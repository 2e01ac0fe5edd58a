"""Lines that may be due often, written once in a while for each key."""

from __future__ import annotations

import time
from typing import Final

PERIOD: Final = 60.0
MAX_KEYS: Final = 256


class Sparing:
    """Says of each key at most once a minute that a line about it is due, and that of at most `MAX_KEYS` keys."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        """Key -> when it was due last, the oldest first."""

    def due(self, key: str) -> bool:
        """Whether to write the line now."""
        now = time.monotonic()
        while self._last and now - next(iter(self._last.values())) >= PERIOD:
            del self._last[next(iter(self._last))]
        if key in self._last or len(self._last) >= MAX_KEYS:
            return False
        self._last[key] = now
        return True
