"""Everything that is recorded about one call, with what happened to it in the order of time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, TypedDict

from gateway_core.activity.events import MAX_NAME, EndedCall, Failure
from gateway_core.activity.timeline import Happening, Spent, spent, timeline
from gateway_core.api import Step
from gateway_core.exchange.exchange import Exchange
from gateway_core.hooks.tracing import Timeline
from gateway_core.log.access import shown_name


class CallDetails(TypedDict):
    """One call, in flight or ended."""

    id: str
    state: Literal["in flight", "asking", "parked", "ended"]
    method: str
    name: str
    agent: str
    verified: bool
    era: str
    session: str | None
    upstream: str | None
    outcome: str | None
    """None until it has ended."""
    error: Failure | None
    seconds: float
    waited: float
    started: float
    generation: int | None
    """None until it has ended."""
    sent: bool
    bytes: int | None
    """Of the result; None until it has ended."""
    spent: Spent | None
    """Where the time went; None if it was not measured."""
    timeline: list[Happening]


def of_ended(call: EndedCall, steps: Sequence[Step]) -> CallDetails:
    """A call that has ended. `steps`: none if it was not measured."""
    moments = tuple(zip(call.decided, call.decisions, strict=True))
    # The record counts back from its own moment, a little after the end of the call; steps have times of their own.
    started = min([call.started, *(step.started for step in steps)])
    return {
        "id": call.id,
        "state": "ended",
        "method": call.method,
        "name": call.name,
        "agent": call.agent,
        "verified": call.verified,
        "era": call.era,
        "session": call.session,
        "upstream": call.upstream,
        "outcome": call.outcome,
        "error": call.error,
        "seconds": call.seconds,
        "waited": call.waited,
        "started": call.started,
        "generation": call.generation,
        "sent": call.sent,
        "bytes": call.bytes,
        "spent": spent(started, call.at, call.marks, steps) if steps else None,
        "timeline": [
            *timeline(started, moments, call.marks, steps, ()),
            {"at": call.at, "seconds": None, "what": "ended", "who": call.upstream or "", "text": call.outcome},
        ],
    }


def of_live(exchange: Exchange, seconds: float) -> CallDetails:
    """A call in flight, which began `seconds` ago, or one that waits for its agent, for `seconds`."""
    agent, origin, trail = exchange.agent, exchange.origin, exchange.trail
    now, marks = time.time(), () if trail is None else trail.marks
    started, measured = now - seconds, exchange.hops
    steps, running = (measured.steps, measured.running()) if isinstance(measured, Timeline) else ((), ())
    return {
        "id": exchange.id,
        "state": "parked" if exchange.away else "asking" if exchange.asking else "in flight",
        "method": exchange.method,
        "name": "" if origin is None else shown_name(exchange.method, origin.name)[:MAX_NAME],
        "agent": agent.principal.id[:MAX_NAME],
        "verified": agent.principal.verified,
        "era": agent.era,
        "session": agent.session_key or None,
        "upstream": exchange.upstream,
        "outcome": None,
        "error": None,
        "seconds": seconds,
        "waited": exchange.waited,
        "started": started,
        "generation": None,
        "sent": exchange.sent,
        "bytes": None,
        "spent": spent(started, now, marks, (*steps, *running)) if isinstance(measured, Timeline) else None,
        "timeline": timeline(started, (), marks, steps, running),
    }
