"""The observable state of one upstream, the events that it reports, and the clock that it lives by."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec

from gateway_core.api import Kind, UpstreamFacts, UpstreamState, UpstreamView
from gateway_core.config import UpstreamConfig

SUSTAINED: Final = 60.0
"""Seconds of health after which earlier losses no longer count."""
UNSTEADY: Final = 3
"""Losses without sustained health between them from which on an upstream is reported as unsteady."""

_WITHOUT_CALLS: Final = frozenset(
    {
        *(UpstreamState.CONNECTING, UpstreamState.DOWN, UpstreamState.NEEDS_LOGIN),
        *(UpstreamState.STOPPED, UpstreamState.MISCONFIGURED),
    }
)
"""The states in which an upstream gets no calls, drained or not."""


@dataclass(frozen=True)
class Clock:
    """Monotonic time, and waiting for it."""

    now: Callable[[], float] = time.monotonic
    """Seconds, comparable with the event loop's time."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Definition(Protocol):
    """One definition in a list of an upstream; see `Item`."""

    @property
    def name(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


Definitions: TypeAlias = Mapping[Kind, Sequence[Definition]]


class PrivateTo(msgspec.Struct, frozen=True):
    """The agent that private lists belong to."""

    viewer: str
    """See `Agent.viewer`."""
    hide: Callable[[str], str]
    """Hides in a text of the server what it got of that agent. Any thread may call it."""


class ListsDiffer(Protocol):
    """Called with the name of an upstream, and lists that may differ from the lists fetched before.

    `private`: the agent that they belong to; None for lists that are the same for all callers.
    """

    def __call__(
        self, upstream: str, before: Definitions, after: Definitions, private: PrivateTo | None = None, /
    ) -> None: ...


def _ignore(upstream: str, before: Definitions, after: Definitions, private: PrivateTo | None = None, /) -> None:
    return


class UpstreamEvents(msgspec.Struct, frozen=True):
    """Callbacks about one upstream. They must not wait."""

    lists_changed: Callable[[], None] = lambda: None
    """Called when a call or a late list has updated the published lists."""
    private_lists_changed: Callable[[str, bool], None] = lambda principal, tell: None
    """Called with the id of a principal whose private lists were fetched or dropped, and whether to tell its agents."""
    lists_differ: ListsDiffer = _ignore
    state_changed: Callable[[UpstreamView, UpstreamState, str | None], None] = lambda view, before, why: None
    """Called with an upstream that has entered another state, the state before, and the reason of its last failure."""


NO_EVENTS: Final = UpstreamEvents()
SYSTEM_CLOCK: Final = Clock()


class UpstreamStatus:
    """State and last failure of one upstream."""

    def __init__(self, config: UpstreamConfig, order: int, clock: Clock, events: UpstreamEvents = NO_EVENTS) -> None:
        self.facts: Final = UpstreamFacts(
            config.name, config.transport, config.url, config.priority, config.group, order
        )
        self.view: Final = UpstreamView(self.facts)
        self.last_error: str | None = None
        """The reason of the last failure, in a form that agents may see."""
        self.last_words = ""
        """The last line on stderr of the connection closed last: for operators only."""
        self.last_lines: Sequence[str] = ()
        """The last lines on stderr of that connection."""
        self.retry_at: float | None = None
        """Time of the next attempt to reach the server, while it is down or ejected."""
        self.clock: Final = clock
        self._events = events
        self.connects = 0
        """How often the main connection was opened."""
        self.ejections = 0
        """How often the upstream was ejected."""
        self.state = UpstreamState.CONNECTING
        """The state as observed. While it is drained, `facts` show another one, and so it gets no new calls."""
        self.drained = False
        """Whether an operator keeps new calls from it."""
        self._up_since: float | None = None
        self._losses = 0
        self._loss = ""

    def enter(self, state: UpstreamState, *, reason: str | None = None, retry_at: float | None = None) -> None:
        """Set the state, its reason, and the time of the next attempt."""
        self.state = state
        self.ejections += state is UpstreamState.EJECTED
        self.retry_at = retry_at
        if reason is not None or state is UpstreamState.HEALTHY:
            self.last_error = reason
        self._show()

    def drain(self, drained: bool) -> None:
        """Keep new calls from it, or let them come again."""
        self.drained = drained
        self._show()

    def _show(self) -> None:
        before = self.facts.state
        shown = UpstreamState.DRAINING if self.drained and self.state not in _WITHOUT_CALLS else self.state
        self.facts.enter(shown)
        if shown is not before:
            reason = self.reason if shown is UpstreamState.DRAINING else self.last_error
            self._events.state_changed(self.view, before, reason)

    @property
    def reason(self) -> str:
        """Why it gets no calls, in a form that agents may see."""
        if self.facts.state is UpstreamState.DRAINING:
            return "an operator keeps new calls from it"
        return self.last_error or "not reached yet"

    def failed(self, reason: str) -> None:
        """Record why a request failed."""
        self.last_error = reason

    def ended(self, last_words: str, last_lines: Sequence[str] = ()) -> None:
        """Record the last line on stderr of a connection that was closed, and the last lines before it."""
        self.last_words, self.last_lines = last_words, last_lines

    def connected(self) -> None:
        """Enter the state healthy, on a new main connection."""
        self.connects += 1
        self._up_since = self.clock.now()
        self.enter(UpstreamState.HEALTHY)

    def lost(self, reason: str) -> None:
        """Record that the main connection, if there was one, was lost."""
        if self._up_since is None:
            return
        if self._steady:
            self._losses = 0
        self._up_since = None
        self._losses += 1
        self._loss = f"{reason}: {self.last_words}" if self.last_words else reason

    def rest(self) -> None:
        """Record that the server was stopped because it is not used, or is not started yet for that reason."""
        self._up_since = None
        self.enter(UpstreamState.IDLE)

    @property
    def _steady(self) -> bool:
        return self._up_since is not None and self.clock.now() - self._up_since >= SUSTAINED

    @property
    def unsteady(self) -> str:
        """For operators: how often a server that is up now was lost shortly before, and why; empty if it is steady."""
        if self._losses < UNSTEADY or self._up_since is None or self._steady:
            return ""
        return (
            f"{self.facts.name} was lost {self._losses} times without {SUSTAINED:g} s of health between: {self._loss}"
        )

    def retry_in(self) -> float | None:
        """Seconds until the next attempt to reach this upstream; None if unknown."""
        return None if self.retry_at is None else max(0.0, self.retry_at - self.clock.now())
