"""Places among the requests that one upstream works on at a time, and the bounded queue for them.

A call that waits for its agent's answer to a question lends its place, so that people who think about an answer do not
keep others from being served; back with the answer it has its place at once, above the limit if need be.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

from gateway_core.errors import Busy
from gateway_core.exchange import Exchange


class Places:
    """`limit` places, and a queue of at most `queue` who wait for one, first come, first served."""

    def __init__(self, limit: int, queue: int | None = None, full: str = "") -> None:
        """`queue`: twice as many as places, unless something else is said. `full`: what is said when it is full."""
        self._limit = limit
        self._queue_limit = 2 * limit if queue is None else queue
        self._full = full or f"{limit} calls in flight, and {self._queue_limit} waiting"
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self._taken < self._limit and not self._queue:
            self._taken += 1
            return True
        return False

    async def take(self) -> None:
        """Wait for a place. Raises `Busy` when the queue is full."""
        if self.take_now():
            return
        if len(self._queue) >= self._queue_limit:
            raise Busy(self._full, retry_after=1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # `free` may have passed it over already
                    self._queue.remove(turn)
            else:
                self.free()  # it was handed over at the very moment of the cancellation
            raise

    def free(self) -> None:
        """Give a place back: to the next in the queue, unless more are taken than there are."""
        while self._queue and self._taken <= self._limit:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def take_back(self) -> None:
        """Take a place that was lent, at once."""
        self._taken += 1


class Place:
    """A place that a call holds from `take` to `leave`; its exchange can lend it meanwhile (`Loan`)."""

    __slots__ = ("_exchange", "_lent", "_places")

    def __init__(self, places: Places, exchange: Exchange) -> None:
        self._places = places
        self._exchange = exchange
        self._lent = False

    def take_now(self) -> bool:
        """Take it if that is possible at once."""
        if not self._places.take_now():
            return False
        self._exchange.loans += (self,)
        return True

    def take_over(self) -> None:
        """Hold the one that was taken for the call before it had a task."""
        self._exchange.loans += (self,)

    async def take(self) -> None:
        """Wait for it. Raises `Busy` when too many wait already."""
        await self._places.take()
        self._exchange.loans += (self,)

    def leave(self) -> None:
        """Give it back."""
        loans = self._exchange.loans
        self._exchange.loans = () if loans == (self,) else tuple(loan for loan in loans if loan is not self)
        if not self._lent:
            self._places.free()

    async def __aenter__(self) -> None:
        await self.take()

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    def lend(self) -> None:
        if not self._lent:
            self._lent = True
            self._places.free()

    def take_back(self) -> None:
        if self._lent:
            self._lent = False
            self._places.take_back()
