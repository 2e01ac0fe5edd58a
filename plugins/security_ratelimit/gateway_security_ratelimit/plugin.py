"""Limit calls per agent and tool, by the generic cell rate algorithm (GCRA, ITU-T I.371).

One number is kept per agent and tool: the **theoretical arrival time** (TAT), when everything allowed so far would have
been used up at the configured rate. A call is allowed while the TAT is less than a burst ahead of now. There are no
minutes whose edges could be played: in any t seconds, at most `burst` + t * limit / 60 calls pass.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import ClassVar, Final

from pydantic import Field

from gateway_core import Call, PluginConfig, Reject, hookimpl

MAX_KEYS: Final = 10_000
"""Pairs of agent and tool that are remembered."""
MAX_NAME: Final = 128
"""Characters of a name that the catalog does not know; the agent chose them."""
_SWEEP: Final = 16
"""Old pairs that are looked at when a new one needs room: bounded work per call."""


class RateLimit:
    """Refuses calls that come too fast, and says when to come back."""

    methods: ClassVar = frozenset({"tools/call"})

    class Config(PluginConfig):
        """Settings of `security_ratelimit`."""

        rate_limit_per_minute: int = Field(
            default=60, ge=0, description="calls per minute, per agent and tool; 0 switches the limit off"
        )
        burst: int | None = Field(
            default=None, gt=0, description="calls that may come at once; without it, as many as per minute"
        )

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = config.rate_limit_per_minute
        self._interval = 60 / self._limit if self._limit else 0.0
        self._tolerance = self._interval * ((config.burst or self._limit) - 1)
        self._clock = clock
        self._arrivals: OrderedDict[tuple[str, str], float] = OrderedDict()

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        if not self._limit:
            return None
        # The published name, so that `upstream:tool` counts as the tool that it is.
        tool = call.name[:MAX_NAME] if call.tool is None else call.tool.name
        key = (call.principal.id, tool)
        now = self._clock()
        arrival = max(self._arrivals.get(key, now), now)
        wait = arrival - now - self._tolerance
        if wait > 1e-6:  # not 0: sums of floats
            seconds = math.ceil(wait * 10) / 10
            return Reject(
                f"Rate limit exceeded: {self._limit} calls per minute for tool {tool!r}; try again in {seconds:g} s",
                retry_after=seconds,
            )
        if key not in self._arrivals and len(self._arrivals) >= MAX_KEYS:
            self._make_room(now)
        self._arrivals[key] = arrival + self._interval
        self._arrivals.move_to_end(key)
        return None

    def _make_room(self, now: float) -> None:
        """Forget pairs whose TAT has passed, for they count as new ones anyway; if there are none, the oldest."""
        oldest = list(islice(self._arrivals.items(), _SWEEP))
        passed = [key for key, arrival in oldest if arrival <= now]
        for key in passed or [oldest[0][0]]:
            del self._arrivals[key]
