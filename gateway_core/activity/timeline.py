"""What happened to one call, in the order of time, and where its time went."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias, TypedDict

from gateway_core.api import Decision, HookStep, HopStep, Step, WaitStep
from gateway_core.exchange.trail import Mark

Moment: TypeAlias = tuple[float, Decision]
"""When a plugin decided, in seconds since the epoch, and what."""
_Span: TypeAlias = tuple[float, float]
"""Begin and end, in seconds since the epoch."""
_ENDS: Final = {"asked": ("answered", "unanswered"), "parked": ("resumed",)}
"""What begins a wait for a person -> what ends it."""


class Happening(TypedDict):
    """One thing that happened to a call."""

    at: float
    """When it began, in seconds since the epoch."""
    seconds: float | None
    """How long it took; None for a moment, and until it has ended."""
    what: str
    """`began`, `decided` or `ran` (a hook), `waited`, `tried` or `sent` (a request to an upstream), `replied`, `ended`,
    or what `Mark` says."""
    who: str
    """The plugin or the upstream; empty for the gateway and the agent."""
    text: str


class Spent(TypedDict):
    """Where the seconds of a call went. They add up to the whole; each moment counts in the first of these."""

    people: float
    """Answers of people."""
    plugins: float
    """Hooks."""
    upstreams: float
    """Requests to upstreams."""
    waiting: float
    """Places at upstreams, and starts of servers."""
    gateway: float
    """The rest."""


def timeline(
    started: float, moments: Sequence[Moment], marks: Sequence[Mark], steps: Sequence[Step], running: Sequence[Step]
) -> list[Happening]:
    """Everything that is known. `running`: steps that have not ended, with their seconds up to now."""
    left = list(moments)
    happened = [_moment(started, "began", "", "")]
    for step in steps:
        happened += _of_step(step, left)
    for step in running:
        happened += [{**_of_step(step, [])[0], "seconds": None}]
    happened += [_decided(at, None, it) for at, it in left]
    happened += [_moment(mark.at, mark.what, mark.upstream, mark.text) for mark in marks]
    return sorted(happened, key=lambda one: one["at"])


def _moment(at: float, what: str, who: str, text: str) -> Happening:
    return {"at": at, "seconds": None, "what": what, "who": who, "text": text}


def _decided(at: float, seconds: float | None, decision: Decision) -> Happening:
    text = f"{decision.decided} {decision.rule}".strip()
    return {"at": at, "seconds": seconds, "what": "decided", "who": decision.plugin, "text": text}


def _of_step(step: Step, moments: list[Moment]) -> list[Happening]:
    """What a step says. Takes its decision out of `moments`."""
    if isinstance(step, HookStep):
        if step.decision is None:
            return [_span(step, "ran", step.plugin, step.hook)]
        known = next((number for number, (_, decision) in enumerate(moments) if decision == step.decision), None)
        if known is not None:
            del moments[known]
        return [_decided(step.started, step.seconds, step.decision)]
    if isinstance(step, WaitStep):
        return [_span(step, "waited", step.upstream, step.waited_for)]
    how = "" if step.ended in {"answered", "open"} else step.ended
    sent = _span(step, "tried" if how == "not_sent" else "sent", step.upstream, how)
    if step.ended != "answered":
        return [sent]
    code = "" if step.code is None else f"error {step.code}"
    return [sent, _moment(step.started + step.seconds, "replied", step.upstream, code)]


def _span(step: Step, what: str, who: str, text: str) -> Happening:
    return {"at": step.started, "seconds": step.seconds, "what": what, "who": who, "text": text}


def spent(started: float, ended: float, marks: Sequence[Mark], steps: Sequence[Step]) -> Spent:
    """Where the time between two moments went. `steps`: running ones, too."""
    kinds: tuple[tuple[type[Step], ...], ...] = ((HookStep,), (HopStep,), (WaitStep,))
    groups = [
        list(_for_people(marks, ended)),
        *([(it.started, it.started + it.seconds) for it in steps if isinstance(it, kind)] for kind in kinds),
    ]
    known: list[_Span] = []
    seconds, covered = list[float](), 0.0
    for group in groups:
        known += [(max(begin, started), min(end, ended)) for begin, end in group if begin < ended and end > started]
        before, covered = covered, _covered(known)
        seconds.append(covered - before)
    people, plugins, upstreams, waiting = (round(one, 6) for one in seconds)
    rest = round(max(0.0, ended - started - covered), 6)
    return {"people": people, "plugins": plugins, "upstreams": upstreams, "waiting": waiting, "gateway": rest}


def _for_people(marks: Sequence[Mark], ended: float) -> Iterator[_Span]:
    for number, mark in enumerate(marks):
        if mark.what in _ENDS:
            over = (it.at for it in marks[number + 1 :] if it.what in _ENDS[mark.what] and it.upstream == mark.upstream)
            yield mark.at, next(over, ended)


def _covered(spans: Iterable[_Span]) -> float:
    """The seconds that lie in at least one span."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        if end > reached:
            total += end - max(begin, reached)
            reached = end
    return total
