"""JSON values of calls in flight and of calls that wait for their agents: without secrets, session ids and payloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from gateway_core.activity.events import MAX_NAME
from gateway_core.exchange.exchange import Exchange
from gateway_core.log.access import shown_name
from gateway_core.pipeline.input_required.parking import Parking
from gateway_core.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from gateway_core.control.shapes import LiveCall


class LiveCalls:
    """The calls of all generations that serve any, and the parked ones."""

    def __init__(self, pipelines: Callable[[], Iterable[Pipeline]], parking: Parking) -> None:
        self._pipelines = pipelines
        self._parking = parking

    def listing(self) -> list[LiveCall]:
        """The calls as JSON values."""
        return [_call(exchange, seconds) for exchange, seconds in (*self.in_flight(), *self._parking.calls())]

    def find(self, exchange_id: str) -> tuple[Exchange, float] | None:
        """The call with this id, and the seconds since it began, or for which it has waited for its agent."""
        calls = (*self.in_flight(), *self._parking.calls())
        return next((found for found in calls if found[0].id == exchange_id), None)

    def cancel(self, exchange_id: str) -> bool:
        """End a call by the id of its exchange. Returns whether there is one."""
        for exchange, _ in self.in_flight():
            if exchange.id == exchange_id:
                exchange.end("an operator cancelled the call")
                return True
        return self._parking.cancel(exchange_id)

    def in_flight(self) -> Iterator[tuple[Exchange, float]]:
        """The calls in flight, and the seconds since each began."""
        now = time.monotonic()
        for pipeline in self._pipelines():
            for call in list(pipeline.deadlines.running):
                exchange: Exchange = call.about
                yield exchange, now - call.started


def _call(exchange: Exchange, seconds: float) -> LiveCall:
    """One call in flight, which began `seconds` ago."""
    agent, origin = exchange.agent, exchange.origin
    return {
        "id": exchange.id,
        "method": exchange.method,
        "name": "" if origin is None else shown_name(exchange.method, origin.name)[:MAX_NAME],
        "agent": agent.principal.id,
        "verified": agent.principal.verified,
        "era": agent.era,
        "session": agent.session_key or None,
        "upstream": exchange.upstream,
        "sent": exchange.sent,
        "asking": exchange.asking > 0,
        "parked": exchange.away,
        "seconds": round(seconds, 3),
    }
