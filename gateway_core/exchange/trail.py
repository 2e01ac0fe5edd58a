"""What happened to one request on its way, apart from its answer: attempts that failed, progress, questions.

A usual call has none of it, so its exchange has no trail.
"""

from __future__ import annotations

import time
from typing import Final, Literal, TypeAlias

import msgspec

from gateway_core.log.escaping import escape

Happened: TypeAlias = Literal["failed", "progress", "asked", "answered", "unanswered", "parked", "resumed"]
"""`failed`: an attempt at an upstream. `asked`, `answered` and `unanswered`: a question to the agent. `parked` and
`resumed`: the call waits for the agent's next request, which brings the answers."""
MAX_MARKS: Final = 64
"""Marks of one trail. A progress notification replaces the mark of the one before it; of the rest, the first stay."""
MAX_TEXT: Final = 200
"""Characters of the text of a mark."""


class Mark(msgspec.Struct, frozen=True):
    """One thing that happened to a request."""

    at: float
    """Seconds since the epoch."""
    what: Happened
    upstream: str = ""
    """The upstream, or the plugin, that it is about; empty if it is about none."""
    text: str = ""
    """Why an attempt failed, the method of a question, or the number of progress notifications so far."""


class Trail(msgspec.Struct, eq=False):
    """The marks of one request, in order; bounded."""

    marks: list[Mark] = []
    left_out: int = 0
    """Marks that were dropped because there are too many."""
    _progress: int = 0

    def add(self, what: Happened, upstream: str = "", text: str = "") -> None:
        """Add a mark of this moment."""
        if len(self.marks) >= MAX_MARKS:
            self.left_out += 1
            return
        self.marks.append(Mark(time.time(), what, upstream, escape(text[:MAX_TEXT])))

    def progress(self, upstream: str) -> None:
        """Count a progress notification; consecutive ones share one mark, which has the time of the last."""
        self._progress += 1
        if self.marks and self.marks[-1].what == "progress":
            self.marks.pop()
        self.add("progress", upstream, str(self._progress))
