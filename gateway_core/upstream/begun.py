"""A request that was sent without a task, and the way of its answer.

Most calls wait for nothing but one answer. Those need no task: whoever reads the answer from the wire ends the call.
The first thing that is not so is why the call is **taken over** by a task, which goes on from there as if it had been
there from the start; all that is rare is written once, for tasks. What the answer comes through is the connection's
business: it makes a `BegunPending` of its own kind. What is held meanwhile, and what becomes of the answer, is that of
who began it: `begun_call.py`.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

import msgspec
from msgspec import Raw

from gateway_core.errors import DeliveryError
from gateway_core.exchange import Exchange
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.requests import Prepared, Reply


class BegunRequest(msgspec.Struct, eq=False):
    """The request, as its connection knows it."""

    exchange: Exchange
    prepared: Prepared
    started: float
    """On the monotonic clock."""
    pending: BegunPending | None = None
    """Set by the connection while it has the request."""
    _arrival: asyncio.Future[Any] | None = None
    """What the task waits for that has taken over."""

    @abstractmethod
    def ended(self, result: bytes, members: dict[str, Raw]) -> bool:
        """End the call with this result, a result object and its members; False where a task is to do it."""

    @abstractmethod
    def give_task(self) -> None:
        """Have a task go on with the call; it finds this in `Exchange.begun`."""

    @abstractmethod
    async def carry_on(self) -> Reply:
        """Wait for the answer, for the task that has taken over; as `Connection.request` does."""

    def take_over(self) -> None:
        """From now on a task waits for the answer."""
        if self._arrival is None:
            self._arrival = asyncio.get_running_loop().create_future()
            self.give_task()
            if self.pending is not None:
                self.pending.taken_over()

    def arrived(self, what: Any = None) -> None:
        """Have the task go on: with `what` is there, or knowing that `pending` is over."""
        self.take_over()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(what)

    def failed(self, error: OSError) -> None:
        """Have the task go on: there is no answer, for `error`."""
        self.take_over()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(error)

    @property
    def taken(self) -> bool:
        """Whether a task has taken over."""
        return self._arrival is not None

    @property
    def arrival(self) -> asyncio.Future[Any]:
        """What the task waits for."""
        assert self._arrival is not None, "it was taken over"
        return self._arrival


class BegunPending(Pending, kw_only=True):
    """The request as its connection knows it."""

    call: BegunRequest

    def taken_over(self) -> None:
        """A task waits for the answer from now on; `BegunRequest.arrived` lets it go on."""


class BegunAwaited(BegunPending):
    """One whose response comes among all others on the one stream of its connection."""

    def resolve(self, reply: Reply) -> None:
        super().resolve(reply)
        self.call.arrived()

    def fail(self, error: DeliveryError) -> None:
        if not self.over:
            super().fail(error)
            self.call.arrived()
