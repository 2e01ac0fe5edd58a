"""Limits how many requests one upstream works on at a time, with a bounded queue.

A call that waits for its agent's answer to a question releases its slot, so that a slow answer does not block other
calls. When the answer arrives, the call reacquires a slot at once, even above the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from gateway_core.errors import Busy
from gateway_core.log.wording import count


class ConcurrencyLimiter:
    """`limit` slots, and a FIFO queue of at most `queue` waiting calls."""

    def __init__(self, limit: int, queue: int | None = None, full: str = "") -> None:
        """`queue`: twice `limit` by default. `full`: message of the `Busy` error when the queue is full."""
        self._limit = limit
        self._queue_limit = 2 * limit if queue is None else queue
        self._full = full or f"{count(limit, 'call')} in flight, and {self._queue_limit} waiting"
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def acquire_now(self) -> bool:
        """Take a slot if one is free and the queue is empty. Returns whether it did."""
        if self._taken < self._limit and not self._queue:
            self._taken += 1
            return True
        return False

    async def acquire(self) -> None:
        """Wait for a slot. Raises `Busy` when the queue is full."""
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
                with contextlib.suppress(ValueError):  # `release` may have skipped and removed it
                    self._queue.remove(turn)
            else:
                self.release()  # the slot was handed over just before the cancellation
            raise

    def release(self) -> None:
        """Release a slot. Hands it to the next in the queue, unless more than `limit` are taken."""
        while self._queue and self._taken <= self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def reacquire(self) -> None:
        """Take a temporarily released slot again, without waiting and even above the limit."""
        self._taken += 1
