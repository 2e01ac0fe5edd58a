"""Limits how many requests one upstream works on at a time, with a bounded queue.

A call that waits for its agent's answer to a question releases its slot, so that a slow answer does not block other
calls. When the answer arrives, the call reacquires a slot at once, even above the limit.

A call that is given up after it was sent keeps its slot while its server may still work on it: see `keep`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway_core.api import Principal
from gateway_core.errors import Busy
from gateway_core.exchange.exchange import Exchange
from gateway_core.limits.shares import Holder, Shares, holder_of
from gateway_core.log.wording import count

GRACE: Final = 5.0
"""Seconds that a given-up call keeps its slot, if its server is not known to work on after a cancellation."""
REMEMBERED: Final = 600.0
"""Seconds for which a server is known to work on after a cancellation."""


class ConcurrencyLimiter:
    """`limit` slots, and a queue of at most `queue` waiting calls, in which networks and principals take turns."""

    def __init__(self, limit: int, queue: int | None = None, full: str = "") -> None:
        """`queue`: twice `limit` by default. `full`: message of the `Busy` error when the queue is full."""
        self._limit = limit
        self._queue_limit = 2 * limit if queue is None else queue
        self._full = full or f"{count(limit, 'call')} in flight, and {self._queue_limit} waiting"
        self._taken = 0
        self._waiting: Shares[asyncio.Future[None]] = Shares()
        self._turns = self._waiting.held
        self._given_up: Shares[_Kept] = Shares()
        self._keepers = self._given_up.held
        self._works_on_until = 0.0
        """Loop time until which the server is known to work on after a cancellation."""

    @property
    def queued(self) -> int:
        """Number of calls that wait for a slot."""
        return len(self._waiting)

    def acquire_now(self) -> bool:
        """Take a slot if one is free for any call: no call waits, and no given-up call keeps a slot.

        If this returns False, use `acquire`.
        """
        if self._taken < self._limit and not self._turns and not self._keepers:
            self._taken += 1
            return True
        return False

    async def acquire(self, principal: Principal) -> None:
        """Wait for a slot. Raises `Busy` when the queue is full, or when `principal` has cancelled too many calls.

        A full queue drops the newest call of the principal with most, for a call of a principal with fewer.
        """
        holder = holder_of(principal)
        if self._given_up:
            self._check_given_up(holder)
        if self._taken < self._limit and not self._turns:
            self._taken += 1
            return
        if len(self._waiting) >= self._queue_limit:
            self._make_room(holder)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(holder, turn)
        try:
            await turn
        except asyncio.CancelledError:
            self._waiting.remove(turn)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # the slot was handed over just before the cancellation
            raise

    def release(self) -> None:
        """Release a slot. Hands it to the next in the queue, unless more than `limit` are taken."""
        while self._turns and self._taken <= self._limit:
            turn = self._waiting.take_turn()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def reacquire(self) -> None:
        """Take a temporarily released slot again, without waiting and even above the limit."""
        self._taken += 1

    def _make_room(self, newcomer: Holder) -> None:
        """Drop the newest waiting call of a holder with more than `newcomer`. Raises `Busy` if there is none."""
        for holder in self._waiting.above(newcomer, 2):
            turn = next(reversed(self._waiting.of(holder)))
            self._waiting.remove(turn)
            if not turn.done():
                turn.set_exception(self._busy())
            return
        raise self._busy()

    def _busy(self) -> Busy:
        return Busy(self._full, retry_after=1.0)

    # -- calls that were given up ---------------------------------------------------------------------------------

    def keep(self, exchange: Exchange) -> None:
        """Take a slot for a call that is being cancelled, if its server may still work on it.

        The slot is released when the server answers, when the connection is lost, or at the hard deadline of the call.
        A server that obeys a cancellation usually answers nothing, so the slot is released after `GRACE`. Only for a
        server that answered a cancelled call later than that, the slot is kept until the hard deadline.
        """
        deadline, unanswered = exchange.deadline, exchange.unanswered
        if unanswered is None or unanswered.over or deadline is None or deadline.passed or exchange.away:
            return
        now = asyncio.get_running_loop().time()
        longest = max(0.0, deadline.hard_limit - now)
        seconds = min(longest, GRACE) if now >= self._works_on_until else longest
        kept = _Kept(now + GRACE, now + seconds)
        self._taken += 1
        self._given_up.add(holder_of(exchange.agent.principal), kept)
        kept.arm(seconds, self._over)
        unanswered.add_callback(partial(self._ended, kept))

    def _ended(self, kept: _Kept, answered: bool) -> None:
        now = asyncio.get_running_loop().time()
        if answered and now >= kept.obeyed_at:
            self._works_on_until = now + REMEMBERED
        self._over(kept)

    def _over(self, kept: _Kept) -> None:
        """Release the slot of a given-up call, unless that has happened."""
        kept.disarm()
        if self._given_up.remove(kept):
            self.release()

    def _check_given_up(self, holder: Holder) -> None:
        """Raise `Busy` if given-up calls keep half of the slots for this principal, or 3/4 of them for its network."""
        network, own = holder[0], self._given_up.of(holder)
        if len(own) >= max(2, self._limit // 2):
            until = min(kept.until for kept in own)
        elif self._given_up.of_network(network) >= max(2, self._limit * 3 // 4):
            until = min(kept.until for items in self._given_up.held[network].values() for kept in items)
        else:
            return
        wait = max(0.0, until - asyncio.get_running_loop().time())
        raise Busy("it may still work on calls that were cancelled", retry_after=wait)


class _Kept:
    """The slot of a given-up call."""

    __slots__ = ("_timer", "obeyed_at", "until")

    def __init__(self, obeyed_at: float, until: float) -> None:
        self.obeyed_at = obeyed_at
        """Loop time from which an answer shows that the server did not obey the cancellation."""
        self.until = until
        """Loop time at which the slot is released."""
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, seconds: float, over: Callable[[_Kept], object]) -> None:
        """Call `over` after `seconds`."""
        self._timer = asyncio.get_running_loop().call_later(seconds, over, self)

    def disarm(self) -> None:
        """Do not call it any more."""
        if self._timer is not None:
            self._timer.cancel()
