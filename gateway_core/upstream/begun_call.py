"""A call without a task, and what it holds at its upstream until it is answered."""

from __future__ import annotations

import time
from abc import abstractmethod

from msgspec import Raw

from gateway_core.upstream.base import Connection
from gateway_core.upstream.begun import BegunRequest
from gateway_core.upstream.requests import Reply
from gateway_core.upstream.sessions import Lease
from gateway_core.upstream.upstream import Upstream


class BegunCall(BegunRequest, kw_only=True):
    """The call. Its subclass knows what becomes of the answer."""

    upstream: Upstream
    connection: Connection
    """What it is sent on."""
    lease: Lease | None
    """Where that is the agent's own one; None for the one that agents share."""

    @abstractmethod
    def is_plain(self, members: dict[str, Raw]) -> bool:
        """Whether a result with these members is no more than that: no question, no task."""

    @abstractmethod
    def answered(self, result: bytes, members: dict[str, Raw], seconds: float) -> None:
        """The usual answer is there, after so many seconds: a result object and its members."""

    def send(self, arguments: bytes, meta: bytes) -> bool:
        """Send it now, as `Connection.start` does; False where that cannot be, and nothing has happened then."""
        upstream = self.upstream
        if not upstream.places.take_now():
            return False
        if not self.connection.start(self, arguments, meta):
            upstream.places.free()
            return False
        if self.lease is not None:
            self.lease.users += 1
        upstream.calls += 1
        upstream.facts.in_flight += 1
        self.exchange.begun = self
        return True

    def ended(self, result: bytes, members: dict[str, Raw]) -> bool:
        if self._arrival is not None or not self.is_plain(members):
            return False
        # It was answered: what it holds is given back, and the upstream is known to be well.
        upstream, pending = self.upstream, self.pending
        assert pending is not None, "it was sent"
        self.connection.settled(pending)
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

    async def carry_on(self) -> Reply:
        try:
            return await self.connection.carry_on(self)
        finally:
            self.pending = None
            if self.lease is not None:
                self.upstream.own.left(self.lease)
