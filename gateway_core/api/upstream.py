"""Upstreams as plugins see them: read-only views of the core's state."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from gateway_core.mcp.literals import Era, Transport


class UpstreamState(enum.StrEnum):
    """The state of an upstream as the gateway observed it."""

    CONNECTING = "connecting"
    HEALTHY = "healthy"
    EJECTED = "ejected"
    """Reachable, but too many calls failed in transport; tried again after the ejection time."""
    DOWN = "down"
    """Not reachable; the gateway reconnects with backoff."""
    IDLE = "idle"
    """Its process does not run; the next call starts it."""
    NEEDS_LOGIN = "needs_login"
    """Reachable, but a person has to log in first (`rad mcp proxy login`)."""
    DRAINING = "draining"
    """An operator keeps new calls from it. Calls in flight end."""
    STOPPED = "stopped"
    MISCONFIGURED = "misconfigured"
    """Never connected to: a variable or a file that it needs is missing (`on_missing = "skip"`)."""


class UpstreamView:
    """Read-only view of one upstream: fixed settings and live values, which may change between two reads."""

    __slots__ = ("_core",)

    def __init__(self, core: UpstreamFacts) -> None:
        self._core = core

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def transport(self) -> Transport:
        return self._core.transport

    @property
    def url(self) -> str | None:
        """The configured URL; None for stdio."""
        return self._core.url

    @property
    def priority(self) -> int:
        """A lower number is preferred."""
        return self._core.priority

    @property
    def group(self) -> str | None:
        return self._core.group

    @property
    def order(self) -> int:
        """Position in the configuration file, from 0."""
        return self._core.order

    @property
    def era(self) -> Era | None:
        """None until the upstream was reached once."""
        return self._core.era

    @property
    def state(self) -> UpstreamState:
        return self._core.state

    @property
    def healthy(self) -> bool:
        return self._core.state is UpstreamState.HEALTHY

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return self._core.in_flight

    @property
    def latency(self) -> float | None:
        """Moving average of the duration of answered calls, in seconds; None before the first."""
        return self._core.latency

    def __repr__(self) -> str:
        return f"<UpstreamView {self.name} {self.state}>"


@dataclass(slots=True)
class UpstreamFacts:
    """The core's state of one upstream; plugins read it through `UpstreamView`."""

    name: str
    transport: Transport = "http"
    url: str | None = None
    priority: int = 1
    group: str | None = None
    order: int = 0
    era: Era | None = None
    state: UpstreamState = UpstreamState.CONNECTING
    in_flight: int = 0
    latency: float | None = None

    def enter(self, state: UpstreamState) -> None:
        """Set the state."""
        self.state = state

    def place(self, order: int) -> None:
        """Set the position in the configuration file."""
        self.order = order

    def negotiated(self, era: Era) -> None:
        """Set the era of the last handshake."""
        self.era = era

    def took(self, seconds: float) -> None:
        """Add the duration of one answered call to the average."""
        self.latency = seconds if self.latency is None else self.latency + 0.1 * (seconds - self.latency)


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a `check_health` hook. `reason` is for people."""

    healthy: bool
    reason: str = ""
