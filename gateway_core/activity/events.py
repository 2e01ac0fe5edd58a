"""What can happen in a gateway, as operators see it: without secrets, session ids and payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from gateway_core.api import Decision, Kind
from gateway_core.exchange.trail import Mark

EventType: TypeAlias = Literal["call", "upstream", "lists", "definitions", "session", "reload", "question", "log"]
TYPES: Final[tuple[EventType, ...]] = (
    *("call", "upstream", "lists", "definitions"),
    *("session", "reload", "question", "log"),
)
"""All types of events."""
MAX_NAME: Final = 300
"""Characters of a name that comes from outside."""
MAX_TEXT: Final = 1000
"""Characters of a reason or a message."""


class Event(msgspec.Struct, frozen=True, eq=False, tag_field="type", kw_only=True):
    """Something that happened."""

    seq: int
    """Counts up, also across restarts. All events share the count."""
    at: float
    """Seconds since the epoch."""


class Failure(msgspec.Struct, frozen=True):
    """The error that an agent got."""

    code: int
    text: str
    """What the gateway or a plugin says; empty for the errors of servers, which may quote payloads."""


class EndedCall(Event, frozen=True, eq=False, tag="call", kw_only=False):
    """A request of an agent that has ended. `at`: when it ended."""

    id: str
    """Of the exchange, as in the log."""
    method: str
    name: str
    agent: str
    verified: bool
    era: str
    session: str | None
    """A key of the session that is no credential; None for agents without one."""
    upstream: str | None
    """The upstream that it went to last."""
    outcome: str
    error: Failure | None
    seconds: float
    waited: float
    """Seconds of it that passed while the agent's user was asked."""
    started: float
    """Seconds since the epoch."""
    generation: int
    """The number of the configuration that served it."""
    sent: bool
    """Whether a byte of it may have reached an upstream."""
    bytes: int
    """Of the result."""
    decisions: tuple[Decision, ...]
    """What plugins did with it, in order."""
    decided: tuple[float, ...]
    """The times of the decisions, in seconds since the epoch."""
    marks: tuple[Mark, ...]
    """What else happened to it, such as attempts that failed and questions."""


class UpstreamChanged(Event, frozen=True, eq=False, tag="upstream"):
    """An upstream has entered another state."""

    name: str
    state: str
    before: str
    reason: str | None
    """Why, if it is not healthy."""


class ListsChanged(Event, frozen=True, eq=False, tag="lists"):
    """What agents see has changed."""

    kinds: tuple[str, ...]
    """`tools`, `prompts` or `resources`."""
    agent: str | None
    """The principal whose own lists have changed; None if the lists of all have."""


class DefinitionsChanged(Event, frozen=True, eq=False, tag="definitions"):
    """A server changed, added or removed a definition. `/admin/definitions/changes` has it before and after."""

    upstream: str
    kind: Kind
    name: str
    """What the server calls it: a name, a URI or a URI template."""
    what: Literal["changed", "added", "removed"]
    members: tuple[str, ...]
    """The members that differ, such as `description`; the first ones of many."""
    more: int
    """Number of further changes of this server at this moment, which have no events."""


class SessionChanged(Event, frozen=True, eq=False, tag="session"):
    """A session of an agent of a revision up to 2025-11-25 began or ended."""

    key: str
    agent: str
    what: Literal["began", "ended"]


class Reloaded(Event, frozen=True, eq=False, tag="reload"):
    """Another configuration is in force, or one was refused."""

    generation: int
    """The number of the configuration in force now."""
    changes: int
    """Number of changes in force; 0 for one that was refused."""
    problems: int
    """Number of problems because of which it was refused, or which a part of the gateway had with its changes."""


class QuestionsChanged(Event, frozen=True, eq=False, tag="question"):
    """A call asks a person, or does so no longer. `/admin/questions` has the questions."""

    asking: int
    """Number of calls whose agents are being asked."""
    parked: int
    """Number of calls whose agents have to come back with answers."""


class Logged(Event, frozen=True, eq=False, tag="log"):
    """A warning or an error in the log."""

    level: str
    text: str
    fields: Mapping[str, str]


AnyEvent: TypeAlias = (
    EndedCall
    | UpstreamChanged
    | ListsChanged
    | DefinitionsChanged
    | SessionChanged
    | Reloaded
    | QuestionsChanged
    | Logged
)
