"""A request that a call without a task has sent: what it holds at its upstream, and the way of its answer.

Most calls wait for nothing but one answer, which comes as JSON in one piece. Those need no task: whoever reads the
answer from the wire ends the call. The first thing that is not so is why the call is **taken over** by a task, which
goes on from there as if it had been there from the start; all that is rare is written once, for tasks.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from msgspec import Raw

from gateway_core.exchange import Exchange
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.response import Response, ResponseHead
from gateway_core.usual import usual_result

if TYPE_CHECKING:
    from gateway_core.upstream.base import Prepared
    from gateway_core.upstream.upstream import Upstream
    from gateway_core.upstream.wire import WireConnection


class BegunRequest(ABC):
    """The request, and who gets its answer: a `wire.Receiver`. The subclass is the call."""

    __slots__ = ("_arrival", "exchange", "pending", "prepared", "started", "upstream", "wire")

    pending: Pending
    wire: WireConnection
    """Set by the connection when it sends."""

    def __init__(self, exchange: Exchange, upstream: Upstream, prepared: Prepared) -> None:
        self.exchange = exchange
        self.upstream = upstream
        self.prepared = prepared
        self.started = time.monotonic()
        self._arrival: asyncio.Future[Response] | None = None
        """The answer, for the task that has taken over."""

    @abstractmethod
    def is_plain(self, members: dict[str, Raw]) -> bool:
        """Whether a result with these members is no more than that: no question, no task."""

    @abstractmethod
    def answered(self, result: bytes, members: dict[str, Raw]) -> None:
        """The usual answer is there: a result object and its members."""

    @abstractmethod
    def give_task(self) -> None:
        """Have a task go on with the call; it finds this in `Exchange.begun`."""

    def send(self, arguments: bytes) -> bool:
        """Send it now; False where that cannot be, and nothing has happened then."""
        upstream = self.upstream
        if not upstream.places.take_now():
            return False
        if not self.prepared.connection.start(self, arguments):
            upstream.places.free()
            return False
        upstream.calls += 1
        upstream.facts.in_flight += 1
        self.exchange.begun = self
        return True

    def _leave(self) -> None:
        """It was answered: what it holds is given back, and the upstream is known to be well."""
        self.exchange.begun = None
        self.prepared.connection.settled(self.pending)
        upstream = self.upstream
        upstream.places.free()
        upstream.facts.in_flight -= 1
        upstream.facts.took(time.monotonic() - self.started)
        upstream.on_transport(None, True)

    def take_over(self) -> None:
        """From now on a task waits for the answer."""
        if self._arrival is None:
            self._arrival = asyncio.get_running_loop().create_future()
            self.give_task()

    async def response(self) -> Response:
        """The answer, for that task. Raises `OSError`. Cancelled, it hangs up."""
        arrival = self._arrival
        assert arrival is not None
        try:
            return await arrival
        except asyncio.CancelledError:
            if arrival.cancelled():
                self.wire.close()
            elif arrival.exception() is None:
                arrival.result().close()
            raise

    # -- as the receiver of the answer --------------------------------------------------------------------------

    def collects(self, head: ResponseHead) -> bool:
        return head.usual and (head.length or 0) <= self.prepared.limit

    def whole(self, head: ResponseHead, body: bytes) -> None:
        if self._arrival is None and head.usual and len(body) <= self.prepared.limit:
            usual = usual_result(body, self.pending.number)
            if usual is not None and self.is_plain(usual[1]):
                self._leave()
                self.answered(*usual)
                return
        self.begun(Response(head, None, body))

    def begun(self, response: Response) -> None:
        self.take_over()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(response)

    def failed(self, error: OSError) -> None:
        self.take_over()
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(error)
