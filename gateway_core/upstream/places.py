"""Places among the requests that one upstream works on at a time, and the bounded queue for them."""

from __future__ import annotations

import asyncio

from gateway_core.errors import Busy
from gateway_core.types import UpstreamFacts


class Places:
    """`async with places:` holds one. A queue of twice as many waits; past that it is `NotSent` at once."""

    def __init__(self, limit: int, facts: UpstreamFacts) -> None:
        self._limit = limit
        self._facts = facts
        self._free = asyncio.Semaphore(limit)
        self._waiting = 0

    async def __aenter__(self) -> None:
        if self._free.locked():
            if self._waiting >= 2 * self._limit:
                raise Busy(f"{self._limit} calls in flight and {self._waiting} waiting", retry_after=1.0)
            self._waiting += 1
            try:
                await self._free.acquire()
            finally:
                self._waiting -= 1
        else:
            await self._free.acquire()
        self._facts.in_flight += 1

    async def __aexit__(self, *_: object) -> None:
        self._facts.in_flight -= 1
        self._free.release()
