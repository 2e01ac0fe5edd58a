"""The questions that wait for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

from gateway_core.activity.events import MAX_NAME
from gateway_core.exchange.exchange import Exchange
from gateway_core.log.access import shown_name
from gateway_core.pipeline.input_required.parking import Parking
from gateway_core.pipeline.input_required.places import Waiting
from gateway_core.pipeline.input_required.question_pages import QuestionPage, QuestionPages

Answered = Literal["answered", "too late", "not allowed", "unknown"]
"""What came of the answer of an operator."""
Kind = Literal["open", "parked", "approval"]


class Question(TypedDict):
    """A call that waits for an answer."""

    id: str
    """Of the page for an `approval`, otherwise that of the exchange."""
    exchange: str
    kind: Kind
    """`open`: the agent is being asked. `parked`: the agent has to come back with the answer. `approval`: a plugin asks
    on a page of the gateway."""
    agent: str
    method: str
    name: str
    upstream: str | None
    source: str
    """What asks: an upstream, or a plugin."""
    text: str
    """The question of a plugin that operators may answer; empty for others, which are for the agent's user."""
    seconds: float
    """For which it has waited."""
    allowed: list[Literal["cancel", "approve", "deny"]]


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
        "text": "",
        "seconds": round(seconds, 3),
        "allowed": ["cancel"],
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
        "text": "",
        "seconds": round(seconds, 3),
        "allowed": ["cancel"],
    }


def on_page(question: Question, page: QuestionPage) -> Question:
    """The question, if it waits for an answer on a page."""
    found: Question = {**question, "id": page.id, "kind": "approval", "source": page.plugin}
    if page.is_for_operators:
        found |= {"text": page.message, "allowed": ["approve", "deny", "cancel"]}
    return found


def listing(
    in_flight: Iterable[tuple[Exchange, float]], parking: Parking, pages: QuestionPages, now: float
) -> list[Question]:
    """All of them, those first that have waited longest. `now`: loop time."""
    page_of = {page.exchange: page for page in pages.unanswered()}
    found = [of_exchange(it, "open", now - it.away_since) for it, _ in in_flight if it.asking]
    known = {one["id"] for one in found}
    found += [of_exchange(it, "parked", seconds) for it, seconds in parking.calls()]
    found += [of_waiting(it, seconds) for it, seconds in parking.waiting() if it.exchange not in known]
    found = [on_page(one, page_of[one["exchange"]]) if one["exchange"] in page_of else one for one in found]
    return sorted(found, key=lambda one: -one["seconds"])
