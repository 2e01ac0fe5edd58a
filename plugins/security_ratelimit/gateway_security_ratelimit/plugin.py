"""Limit calls per agent and tool, by the generic cell rate algorithm (GCRA, ITU-T I.371).

The state per agent and tool is one number, the **theoretical arrival time** (TAT): the time at which the calls allowed
so far would end at the configured rate. A call is allowed while the TAT is less than a burst after now. Agents cannot
exploit window boundaries: in any t seconds, at most `burst` + t * limit / 60 calls pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import ClassVar, Final

from pydantic import Field

from gateway_core import Call, PluginConfig, Reject, hookimpl
from gateway_security_ratelimit.arrivals import Arrivals, MemoryArrivals

MAX_NAME: Final = 128
"""Maximum characters of a name that is not in the catalog, as the agent chose it."""


class RateLimit:
    """Rejects calls over the limit, with the time until the next attempt."""

    methods: ClassVar = frozenset({"tools/call"})

    class Config(PluginConfig):
        """Settings of `security_ratelimit`."""

        rate_limit_per_minute: int = Field(
            default=60, ge=0, description="calls per minute, per agent and tool; 0 switches the limit off"
        )
        burst: int | None = Field(
            default=None, gt=0, description="calls that may come at once; without it, as many as per minute"
        )

    def __init__(
        self, config: Config, clock: Callable[[], float] = time.monotonic, arrivals: Arrivals | None = None
    ) -> None:
        self._limit = config.rate_limit_per_minute
        self._interval = 60 / self._limit if self._limit else 0.0
        self._tolerance = self._interval * ((config.burst or self._limit) - 1)
        self._clock = clock
        self._arrivals = MemoryArrivals() if arrivals is None else arrivals

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        if not self._limit:
            return None
        # The published name, so that `upstream:tool` and the plain name share a limit.
        tool = call.name[:MAX_NAME] if call.tool is None else call.tool.name
        wait = self._arrivals.take((call.principal.id, tool), self._clock(), self._interval, self._tolerance)
        if wait <= 0:
            return None
        seconds = math.ceil(wait * 10) / 10
        calls = "1 call" if self._limit == 1 else f"{self._limit} calls"
        return Reject(
            f"Rate limit exceeded: {calls} per minute for tool {tool!r}; try again in {seconds:g} s",
            retry_after=seconds,
        )
