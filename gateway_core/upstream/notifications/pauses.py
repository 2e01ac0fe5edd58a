"""Backoff for streams that stay open, and the timeout of a subscription."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from gateway_core.errors import NotSent

FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 60.0
"""Seconds between two attempts; doubled while attempts fail or streams end early."""
STABLE_AFTER: Final = 5.0
"""Seconds that a stream must stay open before the delay resets to `FIRST_DELAY`."""


class Pauses:
    """Exponential backoff between attempts to open a stream that should stay open."""

    def __init__(self) -> None:
        self._delay = FIRST_DELAY
        self._began = 0.0

    def begin(self) -> None:
        """Record the start of an attempt."""
        self._began = asyncio.get_running_loop().time()

    def next(self) -> float:
        """Seconds to wait after the attempt failed or its stream ended."""
        if asyncio.get_running_loop().time() - self._began > STABLE_AFTER:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, MAX_DELAY)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads reconnections


async def agreement(agreed: asyncio.Future[None], seconds: float) -> None:
    """Wait until a server agrees to a subscription; other callers may wait for the same future.

    Raises the exception of `agreed`, and `NotSent` if there is no answer within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            await asyncio.shield(agreed)
    except TimeoutError:
        raise NotSent(f"no answer to the subscription within {seconds:g} s") from None
