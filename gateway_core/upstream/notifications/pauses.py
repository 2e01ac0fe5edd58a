"""How long to wait for a subscription, and before the next attempt to open a stream that should stay open."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from gateway_core.errors import NotSent

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 60.0
"""Seconds between two attempts; doubled while they fail or streams end soon after they began."""
SETTLED: Final = 5.0
"""Seconds that a stream must have lived for the delay to begin at `FIRST_DELAY` again."""


class Pauses:
    """How long to wait before the next attempt to open something that should stay open."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY
        self._began = 0.0

    def begin(self) -> None:
        """An attempt begins."""
        self._began = asyncio.get_running_loop().time()

    def next(self) -> float:
        """Seconds to wait, now that it has failed or ended."""
        if asyncio.get_running_loop().time() - self._began > SETTLED:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, MAX_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections


async def agreement(agreed: asyncio.Future[None], seconds: float) -> None:
    """Wait for a server to agree to a subscription, which others may wait for too.

    Raises what `agreed` has as its exception, and `NotSent` when there is no answer in time.
    """
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(agreed)
    except TimeoutError:
        raise NotSent(f"no answer to the subscription within {seconds:g} s") from None
