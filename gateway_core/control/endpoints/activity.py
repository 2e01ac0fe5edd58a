"""What the gateway does: events, ended calls, the log, questions that wait for people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Protocol, TypedDict

import msgspec
from msgspec import Meta

from gateway_core.activity.details import CallDetails
from gateway_core.activity.events import TYPES, EndedCall
from gateway_core.activity.following import Changes
from gateway_core.activity.questions import Answered, Question
from gateway_core.api.call import Outcome
from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Event, EventStream, Problem
from gateway_core.control.endpoints import definitions
from gateway_core.control.endpoints.upstreams import no_upstream
from gateway_core.log.reading import Excerpt

MAX_LIMIT: Final = 1000
"""Calls, or lines, of one answer."""
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="The most that the answer has; the latest ones")]
Seq = Annotated[int, Meta(ge=0, le=2**53, description="The number after which the reader wants more")]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Activity(definitions.Activity, Protocol):
    """What these endpoints need of the activity."""

    @property
    def recording(self) -> bool: ...
    @property
    def last(self) -> int: ...
    def recent(self, after: int, limit: int, admits: Callable[[EndedCall], bool], browser: str) -> list[EndedCall]: ...
    def call(self, exchange_id: str, browser: str) -> CallDetails | None: ...
    def follow(self, types: Sequence[str], after: int | None, browser: str) -> AsyncIterator[tuple[int, Changes]]: ...
    def questions(self) -> list[Question]: ...
    def cancel_question(self, question_id: str) -> bool: ...
    def answer_question(self, question_id: str, *, approve: bool) -> Answered: ...
    async def log(self, after: int, limit: int, level: str, wanted: Sequence[tuple[str, str]]) -> Excerpt: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def activity(self) -> Activity: ...
    def upstream_log(self, name: str) -> list[str] | None: ...


class RecentQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which ended calls to return; an empty value admits all."""

    after: Seq = 0
    limit: Limit = 100
    upstream: Annotated[str, Meta(description="Only calls that went to this upstream")] = ""
    name: Annotated[str, Meta(description="Only calls of this tool, prompt or resource")] = ""
    agent: Annotated[str, Meta(description="Only calls of this principal")] = ""
    outcome: Annotated[str, Meta(description="Only calls that ended like this, such as `refused`")] = ""


class RecentCalls(TypedDict):
    """Ended calls."""

    calls: list[EndedCall]
    """Latest first."""
    last: int
    """The number of the last event: `after` of the next request."""
    recording: bool
    """Whether all calls are recorded; for a while after a request they are, otherwise only those that go wrong."""


class EventsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which events to send."""

    types: Annotated[
        str, Meta(description=f"Types of events, separated by commas: {', '.join(TYPES)}; all by default")
    ] = ""
    after: Annotated[
        str,
        Meta(description="The number of the last event that the reader knows; the header Last-Event-ID counts more"),
    ] = ""


class LogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which lines of the log to return; an empty value admits all."""

    after: Seq = 0
    limit: Limit = 100
    level: Annotated[Level, Meta(description="The least severe level")] = "DEBUG"
    upstream: Annotated[str, Meta(description="Only lines about this upstream")] = ""
    exchange: Annotated[str, Meta(description="Only lines about the call with this id")] = ""
    outcome: Annotated[str, Meta(description="Only lines of calls that ended like this")] = ""


class Line(TypedDict):
    """One line of the log."""

    seq: int
    at: float
    """Seconds since the epoch; 0 if the line has no time."""
    level: str
    text: str
    fields: dict[str, Any]


class Lines(TypedDict):
    """Lines of the log, oldest first."""

    lines: list[Line]
    """Without `after` the latest, otherwise the next ones."""
    last: int
    """`after` of the next request."""
    missed: int
    """How many lines after `after` are not kept any more."""


class UpstreamLog(TypedDict):
    """The last lines of the stderr of a server's process, oldest first."""

    lines: list[str]


class UpstreamLogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many lines to return."""

    limit: Limit = 200


class Questions(TypedDict):
    """The questions that wait for people, those first that have waited longest."""

    questions: list[Question]


class QuestionAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What an operator decides."""

    approve: bool


class QuestionAnswered(TypedDict):
    """The id of the question."""

    answered: str


class QuestionCancelled(TypedDict):
    """The id of the question."""

    cancelled: str


def _check_outcome(name: str) -> None:
    """Raises `Problem` if calls cannot end like this. An empty name admits all."""
    if name and name not in set(Outcome):
        raise Problem(422, f"there is no outcome {name[:100]!r}; there are {', '.join(Outcome)}")


_REFUSALS: Final[Mapping[Answered, tuple[int, str]]] = {
    "not allowed": (403, "operators may not answer this question; its approvers do not name operator|control-plane"),
    "unknown": (404, "there is no such question; it may have an answer"),
    "too late": (409, "the question has an answer already, or its call was cancelled"),
}


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """What the gateway does."""

    async def recent(asked: Asked[RecentQuery, None]) -> RecentCalls:
        query, activity = asked.query, operations.activity
        _check_outcome(query.outcome)

        def admits(call: EndedCall) -> bool:
            return (
                query.upstream in ("", call.upstream)
                and (query.name in ("", call.name) or call.name == f"{call.upstream}:{query.name}")
                and query.agent in ("", call.agent)
                and query.outcome in ("", call.outcome)
            )

        last = activity.last
        return {
            "calls": activity.recent(query.after, query.limit, admits, asked.browser),
            "last": last,
            "recording": activity.recording,
        }

    async def call(asked: Asked[None, None]) -> CallDetails:
        found = operations.activity.call(asked.names["id"], asked.browser)
        if found is None:
            raise Problem(404, f"there is no call {asked.names['id'][:100]!r} in flight, and none that ended lately")
        return found

    async def events(asked: Asked[EventsQuery, None]) -> AsyncIterator[Event[Changes]]:
        types = asked.query.types.split(",") if asked.query.types else TYPES
        if unknown := [name for name in types if name not in TYPES]:
            raise Problem(422, f"there is no type of events {unknown[0][:100]!r}; there are {', '.join(TYPES)}")
        after = asked.last_event_id or asked.query.after
        if after and not (after.isascii() and after.isdigit() and len(after) <= 16):
            raise Problem(422, "the number of the last event is not a number of this stream")
        return _events(operations.activity.follow(types, int(after) if after else None, asked.browser))

    async def log(asked: Asked[LogQuery, None]) -> Lines:
        query, activity = asked.query, operations.activity
        _check_outcome(query.outcome)
        wanted = [(key, value) for key in ("upstream", "exchange", "outcome") if (value := getattr(query, key))]
        found = await activity.log(query.after, query.limit, query.level, wanted)
        lines: list[Line] = [
            {"seq": it.seq, "at": it.at, "level": it.level, "text": it.text, "fields": dict(it.fields)}
            for it in found.lines
        ]
        return {"lines": lines, "last": found.last, "missed": found.missed}

    async def upstream_log(asked: Asked[UpstreamLogQuery, None]) -> UpstreamLog:
        lines = operations.upstream_log(asked.names["name"])
        if lines is None:
            raise no_upstream(asked.names["name"])
        return {"lines": lines[-asked.query.limit :]}

    async def questions(_: Asked[None, None]) -> Questions:
        return {"questions": operations.activity.questions()}

    async def cancel(asked: Asked[None, None]) -> QuestionCancelled:
        if not operations.activity.cancel_question(asked.names["id"]):
            raise Problem(*_REFUSALS["unknown"])
        return {"cancelled": asked.names["id"]}

    async def answer(asked: Asked[None, QuestionAnswer]) -> QuestionAnswered:
        outcome = operations.activity.answer_question(asked.names["id"], approve=asked.body.approve)
        if outcome == "answered":
            return {"answered": asked.names["id"]}
        raise Problem(*_REFUSALS[outcome])

    return (
        Endpoint(
            "GET", "/admin/calls/recent", "read", "The calls that ended lately", RecentCalls, recent, query=RecentQuery
        ),
        Endpoint(
            "GET",
            "/admin/calls/{id}",
            "read",
            "One call, in flight or ended, with what happened to it",
            CallDetails,
            call,
            problems={404: "No call in flight has this id, and none that has ended lately"},
        ),
        EventStream(
            "/admin/events",
            "read",
            "What happens, as it happens: at most ten messages a second",
            Changes,
            events,
            query=EventsQuery,
        ),
        Endpoint("GET", "/admin/log", "read", "The last lines of the log", Lines, log, query=LogQuery),
        Endpoint(
            "GET",
            "/admin/upstreams/{name}/log",
            "read",
            "The last lines that the process of an upstream wrote to stderr",
            UpstreamLog,
            upstream_log,
            query=UpstreamLogQuery,
            problems={404: "No upstream has this name"},
        ),
        Endpoint("GET", "/admin/questions", "read", "The questions that wait for people", Questions, questions),
        Endpoint(
            "POST",
            "/admin/questions/{id}/cancel",
            "change",
            "End a call that waits for an answer",
            QuestionCancelled,
            cancel,
            problems={404: "No question has this id"},
        ),
        Endpoint(
            "POST",
            "/admin/questions/{id}/answer",
            "change",
            "Approve or deny a call, where operators are approvers of its question",
            QuestionAnswered,
            answer,
            body=QuestionAnswer,
            problems={
                403: "Operators may not answer this question",
                404: "No question has this id",
                409: "It has an answer already, or its call was cancelled",
            },
        ),
    )


async def _events(messages: AsyncIterator[tuple[int, Changes]]) -> AsyncIterator[Event[Changes]]:
    try:
        async for seq, changes in messages:
            yield Event(str(seq), changes)
    finally:
        if (close := getattr(messages, "aclose", None)) is not None:
            await close()
