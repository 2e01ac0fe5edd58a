"""Limits how many requests one upstream works on at a time, with a bounded queue.

A call that waits for its agent's answer to a question releases its place, so that people who think about an answer do
not block others. With the answer it reacquires its place at once, above the limit if need be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from gateway_core.errors import Busy


class ConcurrencyLimiter:
    """`limit` places, and a queue of at most `queue` that wait for one, first come, first served."""

    def __init__(self, limit: int, queue: int | None = None, full: str = "") -> None:
        """`queue`: twice as many as places, unless something else is said. `full`: what is said when it is full."""
        self._limit = limit
        self._queue_limit = 2 * limit if queue is None else queue
        self._full = full or f"{limit} calls in flight, and {self._queue_limit} waiting"
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def acquire_now(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self._taken < self._limit and not self._queue:
            self._taken += 1
            return True
        return False

    async def acquire(self) -> None:
        """Wait for a place. Raises `Busy` when the queue is full."""
        if self.acquire_now():
            return
        if len(self._queue) >= self._queue_limit:
            raise Busy(self._full, retry_after=1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # `release` may have passed it over already
                    self._queue.remove(turn)
            else:
                self.release()  # it was handed over at the very moment of the cancellation
            raise

    def release(self) -> None:
        """Give a place back: to the next in the queue, unless more are taken than there are."""
        while self._queue and self._taken <= self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def reacquire(self) -> None:
        """Take a place again that was released for a while, at once."""
        self._taken += 1
