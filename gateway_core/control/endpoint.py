"""What an endpoint of the control plane is: its address, who may use it, what it takes and what it answers.

The endpoints stand in `endpoints/`, one module for each subject. `serving` serves them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from aiohttp import web

Right = Literal["open", "read", "change"]
"""Who may use an endpoint. `change` includes `read`; `open` needs no token."""
Q = TypeVar("Q")
B = TypeVar("B")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q, B]):
    """One request to an endpoint, checked."""

    names: Mapping[str, str]
    """The parts of the path that are named in `Endpoint.path`, decoded."""
    query: Q
    body: B
    right: Right
    """What the sender may do."""
    give_time: Callable[[float], None]
    """Lets the request take some seconds more than usual, from now."""
    browser: str = ""
    """The id of the browser session that the cookie of the request belongs to; empty for tokens."""
    last_event_id: str = ""
    """The header Last-Event-ID: where an event stream that was lost continues."""


class Problem(Exception):
    """The request cannot be served: an answer `{"error": text, …}`."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        """`members`: of the answer, beside `error`."""
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})
        self.body: Final = {"error": text, **members}


def _always_200(_: object) -> int:
    return 200


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[Q, B, A]):
    """One address with one method, which answers JSON."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    """Starts with `/`; `{name}` stands for one part of it."""
    right: Right
    summary: str
    """What it does, in one line without a full stop."""
    answer: type[A]
    """A TypedDict, or another type that msgspec makes a schema of."""
    handler: Callable[[Asked[Q, B]], Awaitable[A]]
    """Raises `Problem`."""
    query: type[Q] | None = None
    """A `msgspec.Struct` with the parameters; each needs a default, and `Meta(description=…)`."""
    body: type[B] | None = None
    """A type that msgspec decodes; Structs should say `forbid_unknown_fields=True`."""
    problems: Mapping[int, str] = field(default_factory=dict)
    """Status and occasion of the problems that the handler raises."""
    status: Callable[[A], int] = _always_200
    statuses: Mapping[int, str] = field(default_factory=lambda: {200: "Done"})
    """What `status` returns, and its meaning."""
    ends_with_connection: bool = False
    """Whether the handler is cancelled when its client disconnects. The others finish: a reload must, for example."""


@dataclass(frozen=True, slots=True)
class Event(Generic[A]):
    """One message of an event stream."""

    id: str
    data: A
    event: str = "changes"


@dataclass(frozen=True, slots=True)
class EventStream(Generic[Q, A]):
    """One address that answers GET with server-sent events, until the reader goes.

    The next event is asked for when the reader has taken the last one: a handler must bound what it keeps meanwhile.
    """

    path: str
    right: Right
    summary: str
    answer: type[A]
    """The data of each event."""
    handler: Callable[[Asked[Q, None]], Awaitable[AsyncIterator[Event[A]]]]
    """Raises `Problem`; the iterator is closed with the stream."""
    query: type[Q] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebPage:
    """One address that a browser opens with GET; it needs no token."""

    path: str
    summary: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    """Raises `Problem`."""
    statuses: Mapping[int, str]
    pattern: str = ""
    """`path` as aiohttp writes it, if `{name}` there stands for more than one part."""
    head: bool = True
    """Whether HEAD is answered too: not where GET changes something."""


AnyEndpoint = Endpoint[Any, Any, Any] | EventStream[Any, Any] | WebPage
