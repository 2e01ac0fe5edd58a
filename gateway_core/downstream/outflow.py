"""Whether an agent reads what it is sent."""

from __future__ import annotations

import asyncio
from typing import Final

WRITE_TIMEOUT: Final = 30.0
"""Seconds in which an agent must take at least some of what waits to be sent to it."""


class Outflow:
    """Whether an agent takes what it is sent."""

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._unsent = 0
        self._since = 0.0

    def stalls(self, wire: asyncio.Transport, now: float) -> bool:
        """Whether it has taken nothing for `WRITE_TIMEOUT`; to be asked again and again."""
        unsent = wire.get_write_buffer_size()
        if not unsent or unsent < self._unsent or not self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since > WRITE_TIMEOUT
