"""A request that a call without a task has sent: what it holds at its upstream, and the way of its answer.

Most calls wait for nothing but one answer. Those need no task: whoever reads the answer from the wire ends the call.
The first thing that is not so is why the call is **taken over** by a task, which goes on from there as if it had been
there from the start; all that is rare is written once, for tasks. What the answer comes through is the connection's
business: it makes a `BegunPending` of its own kind.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from gateway_core.exchange import Exchange
from gateway_core.upstream.pending import Pending

if TYPE_CHECKING:
    from gateway_core.errors import DeliveryError
    from gateway_core.upstream.base import Prepared, Reply
    from gateway_core.upstream.sessions import Lease
    from gateway_core.upstream.upstream import Upstream


class BegunRequest(msgspec.Struct, eq=False):
    """The request. The subclass is the call."""

    exchange: Exchange
    upstream: Upstream
    prepared: Prepared
    started: float
    """On the monotonic clock."""
    lease: Lease | None = None
    """The agent's own connection that it is on; None for the one that agents share."""
    pending: BegunPending | None = None
    """Set by the connection while it has the request."""
    _arrival: asyncio.Future[Any] | None = None
    """What the task waits for that has taken over."""

    @abstractmethod
    def is_plain(self, members: dict[str, Raw]) -> bool:
        """Whether a result with these members is no more than that: no question, no task."""

    @abstractmethod
    def answered(self, result: bytes, members: dict[str, Raw], seconds: float) -> None:
        """The usual answer is there, after so many seconds: a result object and its members."""

    @abstractmethod
    def give_task(self) -> None:
        """Have a task go on with the call; it finds this in `Exchange.begun`."""

    def send(self, arguments: bytes, meta: bytes) -> bool:
        """Send it now, as `Connection.start` does; False where that cannot be, and nothing has happened then."""
        upstream = self.upstream
        if not upstream.places.take_now():
            return False
        if not self.prepared.connection.start(self, arguments, meta):
            upstream.places.free()
            return False
        if self.lease is not None:
            self.lease.users += 1
        upstream.calls += 1
        upstream.facts.in_flight += 1
        self.exchange.begun = self
        return True

    def ended(self, result: bytes, members: dict[str, Raw]) -> bool:
        """End the call with this result; False where a task is to do it."""
        if self._arrival is not None or not self.is_plain(members):
            return False
        # It was answered: what it holds is given back, and the upstream is known to be well.
        upstream, pending = self.upstream, self.pending
        assert pending is not None, "it was sent"
        self.prepared.connection.settled(pending)
        self.exchange.begun = self.pending = None
        if self.lease is not None:
            upstream.own.left(self.lease)
        upstream.places.free()
        upstream.facts.in_flight -= 1
        seconds = time.monotonic() - self.started
        upstream.facts.took(seconds)
        upstream.on_transport(None, True)
        self.answered(result, members, seconds)
        return True

    def left(self) -> None:
        """Its connection has done with it."""
        self.pending = None
        if self.lease is not None:
            self.upstream.own.left(self.lease)

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
