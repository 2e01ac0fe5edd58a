"""The deadlines of all requests in flight on one timer: a request that ends in time costs neither a timer nor a heap.

A `Deadline` is to its task what `asyncio.timeout` is: past its moment the task is cancelled, and whoever set it turns
that cancellation, and no other, into the end that a late request has.
"""

from __future__ import annotations

import asyncio
import math


class Deadlines:
    """The deadlines that are set. One timer, for the first of them that may pass."""

    def __init__(self) -> None:
        self._set: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._fires = math.inf
        """When the timer fires, in loop time."""

    def begin(self, task: asyncio.Task[object], when: float) -> Deadline:
        """Set one for `task`, which is running, at the loop time `when`. `Deadline.end` is due."""
        deadline = Deadline(self, task, when)
        self._set.add(deadline)
        if when < self._fires:
            self._arm(when)
        return deadline

    def _arm(self, when: float) -> None:
        """Have the timer fire at `when`, and at no other moment."""
        if self._timer is not None:
            self._timer.cancel()
        self._fires = when
        self._timer = asyncio.get_running_loop().call_at(when, self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer, self._fires = None, math.inf
        for deadline in [it for it in self._set if it.when <= now]:
            deadline.lapse()
        if self._set:
            self._arm(min(it.when for it in self._set))

    def moved(self, deadline: Deadline) -> None:
        """It is at another moment now."""
        if deadline in self._set and deadline.when < self._fires:
            self._arm(deadline.when)

    def ended(self, deadline: Deadline) -> None:
        """It counts no more."""
        self._set.discard(deadline)


class Deadline:
    """The moment past which one task is cancelled."""

    __slots__ = ("_answered", "_cancelling", "_deadlines", "_ended", "_task", "passed", "when")

    def __init__(self, deadlines: Deadlines, task: asyncio.Task[object], when: float) -> None:
        self.when = when
        """Loop time."""
        self.passed = False
        self._deadlines = deadlines
        self._task = task
        self._cancelling = task.cancelling()
        self._ended = False
        self._answered = False
        """Whether its cancellation has been taken back."""

    def move(self, when: float) -> None:
        """Let it be at the loop time `when`; of one that has passed or ended nothing moves."""
        if not self.passed and not self._ended:
            self.when = when
            self._deadlines.moved(self)

    def lapse(self) -> None:
        """It has passed: cancel the task."""
        self._deadlines.ended(self)
        self.passed = True
        self._task.cancel()

    def end(self) -> None:
        """What it was set for is over."""
        self._ended = True
        self._deadlines.ended(self)
        self._take_back()

    def caused(self) -> bool:
        """Whether the cancellation that has reached the task was this deadline's and nobody else's."""
        return self.passed and self._take_back() <= self._cancelling

    def _take_back(self) -> int:
        """Take its cancellation back, once; how many are left."""
        if self.passed and not self._answered:
            self._answered = True
            return self._task.uncancel()
        return self._task.cancelling()
