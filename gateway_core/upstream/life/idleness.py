"""Tells when a server was not used for so long that it is stopped."""

from __future__ import annotations

import math
from typing import Final

from gateway_core.upstream.upstream import Upstream

FOR_LISTS: Final = 10.0
"""Seconds that a server runs which was started only for its lists, if no call follows."""


class Idleness:
    """How long one running server has not been used.

    Uses are calls, subscriptions to its resources, followed tasks, connections of agent sessions, and what `Demand`
    holds. Health checks, list requests and log levels are none.
    """

    def __init__(self, upstream: Upstream, *, asked_for: bool) -> None:
        """`asked_for`: whether something waited for its start. Times are those of the upstream's clock."""
        self._upstream = upstream
        limit = upstream.config.idle_limit
        self._limit = math.inf if limit is None else limit
        for_lists = upstream.config.start == "lazy" and not asked_for
        self._limit_now = min(self._limit, FOR_LISTS) if for_lists else self._limit
        self._calls = upstream.calls
        self._busy = True
        self._since = upstream.clock.now()

    def left(self) -> float:
        """Seconds until the server is to be stopped, unless it is used before; infinite if it is never stopped.

        A use that ended since the last call of this method counts as if it ended now.
        """
        upstream, now, busy = self._upstream, self._upstream.clock.now(), self._busy
        self._busy = bool(upstream.facts.in_flight or upstream.limiter.queued or upstream.connections.wanted)
        if upstream.calls != self._calls:
            self._calls, self._limit_now = upstream.calls, self._limit
            self._since = now
        elif self._busy or busy:
            self._since = now
        return self._since + self._limit_now - now
