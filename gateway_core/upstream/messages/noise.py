"""Noise: what a server sends that answers no request.

Agents share the event loop, so one server must not take it. A server that sends faster than `RATE` is read more slowly.
If most of what it sends is useless for `PATIENCE` seconds, it is **noisy**: its connection is closed.
Large messages count for several. Answers to requests are no noise, because the limits on requests bound them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Final

from gateway_core.errors import OutcomeUnknown
from gateway_core.inline.driver import in_task
from gateway_core.limits.pace import Pace
from gateway_core.mcp.names import LOG_MESSAGE, PROGRESS

RATE: Final = 500.0
BURST: Final = 2000.0
"""Useless messages per second, and at once."""
USEFUL: Final = 0.25
"""What a useful message counts for: progress of a call, a log message."""
WEIGHT: Final = 4 * 1024
"""Bytes that count for one message more."""
LINE: Final = 0.05
"""What a line of an event stream counts for, besides its message."""
PATIENCE: Final = 10.0
"""Seconds after which a noisy server is given up."""
SLICE: Final = 64
"""Messages of one connection that are handled in one turn of the event loop."""
PIECE: Final = 16 * 1024
"""Bytes of an event stream with many lines that are read in one turn."""
MANY_LINES: Final = 256
"""Lines from which a chunk is read in pieces."""
STEP: Final = 16.0
"""What must have been counted before the pace is checked again."""
_USEFUL_METHODS: Final = frozenset({PROGRESS, LOG_MESSAGE})


class Noisy(OutcomeUnknown):
    """The server is given up; the reason continues "the server …"."""


class Noise:
    """The noise of one connection."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._pace = Pace(RATE, BURST, now)
        self._useless = 0.0
        """What useless messages counted for since the server was too fast."""
        self._fresh = 0.0
        """What was counted since the last `pause`."""
        self.given_up = False

    def heard(self, *, useful: bool = False) -> None:
        """Count one message."""
        if useful:
            self._fresh += USEFUL
        else:
            self._fresh += 1.0
            self._useless += 1.0

    def notified(self, method: str) -> None:
        """Count a notification."""
        self.heard(useful=method in _USEFUL_METHODS)

    def weigh(self, size: int, *, useful: bool = False) -> None:
        """Count the bytes of what answers no request."""
        weight = size / WEIGHT
        if useful:
            self._fresh += weight * USEFUL
        else:
            self._fresh += weight
            self._useless += weight

    def lines(self, count: int) -> None:
        """Count lines of an event stream."""
        self._fresh += count * LINE
        self._useless += count * LINE

    def pause(self) -> float:
        """The seconds for which nothing more should be read; 0 for none. Raises `Noisy`."""
        fresh, self._fresh = self._fresh, 0.0
        pause = self._pace.pause(fresh)
        over = self._pace.over_for
        if not pause and not over:
            self._useless = 0.0
        elif over > PATIENCE and self._useless > over * RATE / 2:
            self.given_up = True
            raise Noisy(
                f"is noisy: for {over:.0f} s it sent more than {RATE:.0f} messages, or {RATE * WEIGHT / 1e6:.0f} MB, "
                "a second that answer nothing"
            )
        return pause

    @property
    def due(self) -> bool:
        """Whether enough was counted to call `pause` or `throttle`."""
        return self._fresh > STEP

    async def throttle(self, slowed: Callable[[], object]) -> None:
        """Wait as long as `pause` says, at least for one turn of the loop. Calls `slowed` before a real pause."""
        pause = self.pause()
        if pause:
            slowed()
        await in_task()
        await asyncio.sleep(pause)


def pieces(chunk: bytes) -> Iterator[bytes]:
    """A chunk of an event stream, in pieces if it has many lines."""
    if len(chunk) <= PIECE or chunk.count(b"\n") + chunk.count(b"\r") < MANY_LINES:
        yield chunk
        return
    for start in range(0, len(chunk), PIECE):
        yield chunk[start : start + PIECE]
