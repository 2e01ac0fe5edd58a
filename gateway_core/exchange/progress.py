"""Limits the rate at which the progress of one request is passed on to its agent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from msgspec import Raw

PROGRESS_BURST: Final = 64
"""Progress notifications of one request that may be passed on in a burst, without delay."""
PROGRESS_SPACING: Final = 0.05
"""Seconds between progress notifications after a burst; only the last of each interval is sent
(basic/patterns/progress)."""


class ProgressThrottle:
    """Limits the rate of one request's progress: a burst passes at once, then the last of each interval."""

    __slots__ = ("_held", "_left", "_since", "_timer")

    def __init__(self) -> None:
        self._left = float(PROGRESS_BURST)
        self._since = 0.0
        self._held: dict[str, Raw] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def put(self, members: dict[str, Raw], send: Callable[[dict[str, Raw]], None]) -> None:
        """Send a notification now, or hold it until the interval ends; it replaces one that is held."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._held = members
            return
        now = loop.time()
        self._left = min(PROGRESS_BURST, self._left + (now - self._since) / PROGRESS_SPACING)
        self._since = now
        if self._left >= 1:
            self._left -= 1
            send(members)
        else:
            self._held = members
            self._timer = loop.call_later(PROGRESS_SPACING, self.flush, send)

    def flush(self, send: Callable[[dict[str, Raw]], None]) -> None:
        """Send the held notification now, if there is one."""
        held, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._since += PROGRESS_SPACING  # the held notification uses up this interval
        if held is not None:
            send(held)
