"""What calls and notifications say about one upstream between two checks.

*Passive* checks count outcomes of calls: only transport failures, never a tool's error. Too many of them eject the
upstream. All methods return at once, because calls use them.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from loguru import logger

from gateway_core.api import UpstreamState
from gateway_core.upstream.ejection import TIMED_OUT, PassiveChecks
from gateway_core.upstream.liveness import Liveness
from gateway_core.upstream.status import Clock, UpstreamStatus

RISE: Final = 2
"""Successful checks in a row that end the ejection of an unreachable server."""
EJECT_FIRST: Final = 30.0
EJECT_MAX: Final = 300.0
EJECT_JITTER: Final = 0.2


class Signals:
    """Counts the outcomes of calls, ejects the upstream, and wakes its watch."""

    def __init__(self, status: UpstreamStatus, liveness: Liveness, clock: Clock, rng: random.Random) -> None:
        self._status = status
        self._liveness = liveness
        self._clock = clock
        self._rng = rng
        self._passive = PassiveChecks()
        self._wake = asyncio.Event()
        self._stale = False
        self._doubt = False
        self._unreachable = False
        """Whether the last transport failure occurred before a byte was sent."""
        self._rises = 0
        """Successful checks in a row since the ejection."""

    # -- from calls and notifications -----------------------------------------------------------------------------

    def answered(self) -> None:
        """Record an answered call."""
        now = self._clock.now()
        self._liveness.answered(now)
        self._passive.succeeded(now)

    def failed(self, reason: str, *, sent: bool) -> None:
        """Record a call that failed in transport; `sent`: after a byte may have been sent."""
        now = self._clock.now()
        if reason == TIMED_OUT:
            self._liveness.overdue(now)
        self._unreachable = not sent
        if self._passive.failed(now) and self._status.state is UpstreamState.HEALTHY:
            self._eject(now)
        self.doubt()

    def doubt(self) -> None:
        """Request a check of the server, before the next interval ends."""
        if not self._doubt:
            # Check the server at once instead of at the next interval.
            self._doubt = True
            self._wake.set()

    def lists_changed(self) -> None:
        """Request a fetch of the lists: the server announced a change, or they may be out of date."""
        self._stale = True
        self._wake.set()

    def _eject(self, now: float) -> None:
        status = self._status
        seconds = min(EJECT_FIRST * self._passive.ejected(now), EJECT_MAX)
        seconds *= 1 + self._rng.uniform(-EJECT_JITTER, EJECT_JITTER)
        status.enter(UpstreamState.EJECTED, reason=status.last_error, retry_at=now + seconds)
        self._wake.set()
        self._rises = 0
        logger.warning("upstream {} is ejected for {:.0f} s: too many failed calls", status.facts.name, seconds)

    # -- for the watch --------------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Wait for a reason to check or fetch before the interval ends."""
        await self._wake.wait()

    def woken(self) -> None:
        """Record that the watch acts on the signals so far."""
        self._wake.clear()

    @property
    def stale(self) -> bool:
        """Whether a fetch of the lists was requested."""
        return self._stale

    @property
    def rising(self) -> bool:
        """Whether the upstream is ejected and was unreachable: then checks alone can prove its recovery."""
        return self._unreachable and self._status.state is UpstreamState.EJECTED

    def refreshing(self) -> None:
        """Record that a fetch of the lists begins."""
        self._stale = False

    def connected(self) -> None:
        """Forget what calls said about the previous connection."""
        self._passive.clear()
        self._doubt = False

    def check_failed(self) -> None:
        self._rises = 0

    def check_succeeded(self) -> bool:
        """Record a successful check. Ends an ejection that is due, or that of a server reachable again.

        Returns whether it ended one.
        """
        self._doubt = False
        status = self._status
        if status.state is not UpstreamState.EJECTED:
            return False
        self._rises += 1
        due = status.retry_at is None or status.retry_at <= self._clock.now()
        if not due and not (self.rising and self._rises >= RISE):
            return False
        status.enter(UpstreamState.HEALTHY)
        self._passive.clear()
        return True
