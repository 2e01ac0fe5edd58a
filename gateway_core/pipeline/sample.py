"""Which calls are measured for operators who watch: all of a few, and some of many."""

from __future__ import annotations

import time
from typing import Final

MEASURED: Final = 20
"""Calls of one second that are measured. To measure a call costs as much as an eighth of serving it, and a person reads
no more than a few."""


class Sample:
    """Takes the first calls of each second."""

    def __init__(self, rate: int) -> None:
        """`rate`: calls of one second."""
        self._rate = self._left = rate
        self._until = 0.0

    def takes(self) -> bool:
        """Whether to measure a call that begins now."""
        if self._left:
            self._left -= 1
            return True
        now = time.monotonic()
        if now < self._until:
            return False
        self._until = now + 1.0
        self._left = self._rate - 1
        return True
