"""Everything that is recorded about one call, with what happened to it in the order of time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal, TypedDict

from gateway_core.activity.events import MAX_NAME, EndedCall, Failure
from gateway_core.api import Decision
from gateway_core.exchange.exchange import Exchange
from gateway_core.exchange.trail import Mark
from gateway_core.log.access import shown_name


class Happening(TypedDict):
    """One thing that happened to a call."""

    at: float
    """Seconds since the epoch."""
    what: str
    """`began`, `decided`, `ended`, or what `Mark` says."""
    who: str
    """The plugin or the upstream; empty for the gateway and the agent."""
    text: str


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
    timeline: list[Happening]


def of_ended(call: EndedCall) -> CallDetails:
    """A call that has ended."""
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
        "timeline": [
            *_timeline(call.started, call.decisions, call.decided, call.marks),
            {"at": call.at, "what": "ended", "who": call.upstream or "", "text": call.outcome},
        ],
    }


def of_live(exchange: Exchange, seconds: float) -> CallDetails:
    """A call in flight, which began `seconds` ago, or one that waits for its agent, for `seconds`."""
    agent, origin, trail = exchange.agent, exchange.origin, exchange.trail
    started = time.time() - seconds
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
        "timeline": _timeline(started, (), (), () if trail is None else trail.marks),
    }


def _timeline(
    started: float, decisions: Sequence[Decision], decided: Sequence[float], marks: Sequence[Mark]
) -> list[Happening]:
    happened: list[Happening] = [{"at": started, "what": "began", "who": "", "text": ""}]
    happened += [
        {"at": at, "what": "decided", "who": it.plugin, "text": f"{it.decided} {it.rule}".strip()}
        for at, it in zip(decided, decisions, strict=True)
    ]
    happened += [{"at": mark.at, "what": mark.what, "who": mark.upstream, "text": mark.text} for mark in marks]
    return sorted(happened, key=lambda one: one["at"])
