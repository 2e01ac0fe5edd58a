"""The deadlines of the calls in flight: one timer for all of them.

A deadline moves: progress extends it, a question to the agent suspends it, and the target's timeout replaces the
default one. `hard_limit` bounds all of that but the agent's own time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import msgspec


class Deadline(msgspec.Struct, eq=False):
    """The deadline of one call in flight. The call is a subclass, which `cancel` ends."""

    timer: Deadlines
    about: Any = None
    """The exchange that the call serves; for the owner of the call. None once it has ended."""
    started: float = 0.0
    """Loop time at which the call began."""
    when: float = math.inf
    """Loop time."""
    idle_limit: float = 60.0
    """Seconds until the deadline after progress, or after an agent's answer."""
    longest: float = math.inf
    """Seconds from `started` to `hard_limit`."""
    passed: bool = False
    """Whether the deadline has passed."""
    _open: bool = True
    """Whether the deadline is in force."""

    @property
    def hard_limit(self) -> float:
        """Loop time beyond which progress cannot extend the deadline."""
        return self.started + self.longest

    @property
    def is_pending(self) -> bool:
        """Whether the deadline is in force and has not passed."""
        return self._open and not self.passed

    def begin(self) -> None:
        """Put the deadline in force. The owner of the call must call `end`."""
        timer = self.timer
        timer.running.add(self)
        if self.when < timer.fires:
            timer.arm(self.when)

    def end(self) -> None:
        """The call has ended: forget it and its exchange."""
        self.timer.running.discard(self)
        self.about = None  # the exchange refers to the call as its deadline: avoid a reference cycle

    def cancel(self) -> None:
        """End the call. A deadline alone has nothing to end; the call overrides this."""

    def move(self, when: float) -> None:
        """Set the deadline to the loop time `when`; no effect once it has passed or is closed."""
        if self._open and not self.passed:
            self.when = when
            timer = self.timer
            if when < timer.fires and self in timer.running:
                timer.arm(when)

    def expire(self) -> None:
        """Move the deadline to the present."""
        self.move(asyncio.get_running_loop().time())

    def limit(self, seconds: float) -> None:
        """Replace the timeout: `seconds` from now, and after each later progress; at most `hard_limit`."""
        self.idle_limit = seconds
        self.move(min(asyncio.get_running_loop().time() + seconds, self.hard_limit))

    def extend(self) -> None:
        """Extend it to `idle_limit` seconds from now, at most to `hard_limit`; never shorten it."""
        now = asyncio.get_running_loop().time()
        when = min(now + self.idle_limit, self.hard_limit)
        if now < self.when < when:
            self.move(when)

    def suspend(self, seconds: float) -> None:
        """Wait `seconds` for an agent's answer, and then `idle_limit` for the upstream to finish."""
        self.move(asyncio.get_running_loop().time() + seconds + self.idle_limit)

    def resume(self, waited: float) -> None:
        """End a suspension, which lasted `waited` seconds: they do not count against `hard_limit`."""
        self.longest += waited
        self.move(min(asyncio.get_running_loop().time() + self.idle_limit, self.hard_limit))

    def tell_asking(self) -> None:
        """The agent is asked during the call, or is not any more: see `Deadlines.asking`."""
        self.timer.asking()

    def lapse(self) -> None:
        """Cancel the call because its deadline has passed."""
        if self._open:
            self.passed = True
            self.cancel()


class Deadlines:
    """The calls in flight, and one timer for all their deadlines."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self.fires = math.inf
        """Loop time at which the timer fires."""
        self._timer: asyncio.TimerHandle | None = None
        self.asking: Callable[[], None] = lambda: None
        """Called when an agent is asked during a call, and when that ends."""

    def when_asking(self, asking: Callable[[], None]) -> None:
        """Set `asking`."""
        self.asking = asking

    def arm(self, when: float) -> None:
        """Fire at the loop time `when`."""
        if self._timer is not None:
            self._timer.cancel()
        self.fires = when
        self._timer = asyncio.get_running_loop().call_at(when, self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self.fires = None, math.inf
        for deadline in [it for it in self.running if it.when <= now and it.is_pending]:
            deadline.lapse()
        # A call whose deadline was closed runs on, for example while plugins handle its result.
        left = [it.when for it in self.running if it.is_pending]
        if left:
            self.arm(min(left))
