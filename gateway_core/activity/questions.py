"""The questions that wait for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from gateway_core.activity.events import MAX_NAME
from gateway_core.exchange.exchange import Exchange
from gateway_core.log.access import shown_name
from gateway_core.pipeline.input_required.parking import Parking
from gateway_core.pipeline.input_required.places import Waiting

Kind = Literal["open", "parked"]


class Question(TypedDict):
    """A call that waits for an answer of the agent's user, which operators do not see. They may cancel the call."""

    id: str
    exchange: str
    kind: Kind
    """`open`: the agent is being asked. `parked`: the agent has to come back with the answer."""
    agent: str
    method: str
    name: str
    upstream: str | None
    source: str
    """What asks: an upstream, or a plugin."""
    seconds: float
    """For which it has waited."""


def of_exchange(exchange: Exchange, kind: Kind, seconds: float) -> Question:
    """The question of a call in flight, or of a parked one."""
    origin = exchange.origin
    marks = exchange.trail.marks if exchange.trail is not None else []
    asked = next((mark for mark in reversed(marks) if mark.what == "asked"), None)
    return {
        "id": exchange.id,
        "exchange": exchange.id,
        "kind": kind,
        "agent": exchange.agent.principal.id[:MAX_NAME],
        "method": exchange.method,
        "name": "" if origin is None else shown_name(exchange.method, origin.name)[:MAX_NAME],
        "upstream": exchange.upstream,
        "source": (asked.upstream if asked is not None else "") or exchange.upstream or "",
        "seconds": round(seconds, 3),
    }


def of_waiting(waiting: Waiting, seconds: float) -> Question:
    """The question of a plugin to a modern agent, which has to come back with the answer."""
    return {
        "id": waiting.exchange,
        "exchange": waiting.exchange,
        "kind": "parked",
        "agent": waiting.agent[:MAX_NAME],
        "method": waiting.method,
        "name": shown_name(waiting.method, waiting.name)[:MAX_NAME],
        "upstream": None,
        "source": waiting.source,
        "seconds": round(seconds, 3),
    }


def listing(in_flight: Iterable[tuple[Exchange, float]], parking: Parking, now: float) -> list[Question]:
    """All of them, those first that have waited longest. `now`: loop time."""
    found = [of_exchange(it, "open", now - it.away_since) for it, _ in in_flight if it.asking]
    known = {one["id"] for one in found}
    found += [of_exchange(it, "parked", seconds) for it, seconds in parking.calls()]
    found += [of_waiting(it, seconds) for it, seconds in parking.waiting() if it.exchange not in known]
    return sorted(found, key=lambda one: -one["seconds"])
