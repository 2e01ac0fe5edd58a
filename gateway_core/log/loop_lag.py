"""Reports what blocks the event loop.

All agents share the loop, so code that runs for long without waiting delays every call. The loop sets a time stamp
several times a second. A thread looks at it; once it is too old, the thread reads the stack of the loop's thread and
logs where it is. A plugin in the stack is named.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Final

from loguru import logger

from gateway_core.log.sparing import Sparing

BEAT: Final = 0.05
"""Seconds between two time stamps, and between two looks at them."""
LAG: Final = 0.1
"""Seconds that the loop may be late."""
LONG: Final = 1.0
"""Seconds after which a blocked loop is reported although it is still blocked."""
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds of the counts of `Lags`, in seconds."""
FRAMES: Final = 4
"""Innermost functions that a report names."""
_LOOPS: Final = frozenset({"asyncio", "selectors", "uvloop"})


class Lags:
    """How late each time stamp was."""

    def __init__(self) -> None:
        self.counts: Final = [0] * (len(BOUNDS) + 1)
        """Time stamps up to each bound and above the one before; the last ones are above all bounds."""
        self.seconds = 0.0
        """By how much in all."""

    def add(self, late: float) -> None:
        """Count one more."""
        self.counts[bisect_left(BOUNDS, late)] += 1
        self.seconds += late


class LoopLag:
    """Watches the loop that `start` is called on."""

    def __init__(self, plugins: Mapping[str, str], *, measures: bool = False) -> None:
        """`plugins`: the top-level package of each plugin -> its name. `measures`: whether to keep `lags`."""
        self._plugins = plugins
        self.lags = Lags() if measures else None
        """How late the loop was, however little; None if no plugin asks for it."""
        self._spoken = Sparing()
        self.blocked = 0
        """How often the loop was late by more than `LAG`, the machine being busy included."""
        self.blocked_seconds = 0.0
        """By how much in all."""
        self._beat = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._ended = threading.Event()

    def use(self, plugins: Mapping[str, str], *, measures: bool) -> None:
        """Name other plugins from now on. `measures`: whether to keep `lags`; what is measured already stays."""
        self._plugins = plugins
        if measures != (self.lags is not None):
            self.lags = Lags() if measures else None

    def start(self) -> None:
        """Begin to watch the running loop."""
        self._stamp()
        watched = threading.get_ident()
        threading.Thread(target=self._watch, args=(watched,), name="loop-lag", daemon=True).start()

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()
        if self._next is not None:
            self._next.cancel()

    def _stamp(self) -> None:
        now = time.monotonic()
        if self.lags is not None and self._beat:
            self.lags.add(max(0.0, now - self._beat - BEAT))
        self._beat = now
        self._next = asyncio.get_running_loop().call_later(BEAT, self._stamp)

    def _watch(self, watched: int) -> None:
        blocked_since = 0.0
        found, reported = "", False
        while not self._ended.wait(BEAT):
            beat, now = self._beat, time.monotonic()
            late = now - beat - BEAT
            if blocked_since and beat != blocked_since:
                self.blocked += 1
                self.blocked_seconds += beat - blocked_since - BEAT
                if not reported:
                    self._report(found, beat - blocked_since - BEAT, "")
                blocked_since, reported = 0.0, False
            elif late > LAG and not blocked_since:
                blocked_since, found = beat, self._stack(watched)
            elif blocked_since and late > LONG and not reported:
                found, reported = self._stack(watched), True
                self._report(found, late, " and still is")

    def _stack(self, watched: int) -> str:
        """What the loop's thread does now: its innermost functions, and the plugin among its callers.

        Empty if the loop itself runs: then the machine is busy, and no code blocks it.
        """
        frame = sys._current_frames().get(watched)
        if frame is None or _package(frame) in _LOOPS:
            return ""
        places: list[str] = []
        plugin = ""
        while frame is not None:
            if len(places) < FRAMES:
                places.append(_place(frame))
            plugin = plugin or self._plugins.get(_package(frame), "")
            frame = frame.f_back
        return (f"in plugin {plugin}: " if plugin else "") + ", called by ".join(places)

    def _report(self, where: str, seconds: float, still: str) -> None:
        if where and self._spoken.due(where):
            logger.warning(
                "the event loop was blocked for {:.2f} s{}, which delays all calls: {}; logged once a minute",
                seconds,
                still,
                where,
            )


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _place(frame: FrameType) -> str:
    code = frame.f_code
    file = "/".join(Path(code.co_filename).parts[-2:])
    return f"{code.co_qualname} ({file}:{frame.f_lineno})"
