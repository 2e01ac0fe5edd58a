"""Turns at work that only one caller does at a time, with a bound for the wait of the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from gateway_core.errors import TryLater

RETRY_AFTER: Final = 5.0
"""Seconds after which a caller that got no turn should try again."""


def in_seconds(seconds: float) -> float:
    """The time of the loop in some seconds."""
    return asyncio.get_running_loop().time() + seconds


class Turns:
    """Gives turns in the order of the requests. Knows what the present turn is for, and since when."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder = ""
        self._since = 0.0
        self._end = asyncio.Event()
        """Set when the present turn ends."""

    @property
    def taken(self) -> bool:
        """Whether there is a turn in progress."""
        return self._lock.locked()

    @asynccontextmanager
    async def turn(self, what: str, until: float) -> AsyncIterator[None]:
        """A turn at `what`, such as "a reload".

        `until`: the time of the loop at which the wait ends. Raises `TryLater`, which names the turn in progress.
        """
        try:
            async with asyncio.timeout_at(until):
                await self._lock.acquire()
        except TimeoutError:
            raise TryLater(self._in_progress(), RETRY_AFTER) from None
        self._holder, self._since, self._end = what, time.time(), asyncio.Event()
        try:
            yield
        finally:
            self._end.set()
            self._lock.release()

    async def ended(self) -> None:
        """Wait until the turn in progress, if there is one, has ended. The next one may have begun then."""
        if self.taken:
            await self._end.wait()

    def _in_progress(self) -> str:
        begun = datetime.fromtimestamp(self._since).astimezone().isoformat(timespec="seconds")
        return f"{self._holder} has been in progress since {begun} ({time.time() - self._since:.0f} s)"
