"""The shares of agents in the requests in flight, which are counted only while many are in flight."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection
from typing import Final

from gateway_core.api import Principal
from gateway_core.errors import TooManyCalls
from gateway_core.exchange.exchange import Exchange
from gateway_core.inline.deadlines import Deadline
from gateway_core.limits.shares import holder_of

COUNTED_FOR: Final = 0.05
"""Seconds for which one count of the running calls is used."""
WANTED_FOR: Final = 60.0
"""Seconds after its last request for which an address counts as one that wants places."""
MAX_ADDRESSES: Final = 1024
"""Addresses that are remembered as such."""
LEAST_SHARE: Final = 4
"""Calls that every agent may have in flight, however low the limit is."""
MAX_WAIT: Final = 60.0
"""Maximum `Retry-After`, in seconds."""


class CallShares:
    """Bounds the calls of one principal to a quarter of the limit, and those of one address to three quarters.

    The bound of an address holds only while other addresses want places. All agents behind a proxy have one address. A
    verified principal counts as a separate address.
    """

    def __init__(self, limit: int, running: Callable[[], Collection[Deadline]]) -> None:
        """`running` returns the calls in flight; each is about an `Exchange`."""
        self._running = running
        self.limit_to(limit)
        self._counted_at = -math.inf
        self._principals: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._asked: dict[str, float] = {}
        """Address -> loop time of its last request."""

    def limit_to(self, limit: int) -> None:
        """Apply the shares of another limit from now on."""
        self._of_principal = max(LEAST_SHARE, limit // 4)
        self._of_address = max(LEAST_SHARE, limit * 3 // 4)

    def check(self, principal: Principal) -> None:
        """Count one more call. Raises `TooManyCalls` if `principal` or its address has its share in flight."""
        now = asyncio.get_running_loop().time()
        address = holder_of(principal)[0]
        if address in self._asked or len(self._asked) < MAX_ADDRESSES:
            self._asked[address] = now
        if now - self._counted_at > COUNTED_FOR:
            self._count(now)
        if self._principals[principal.id] > self._of_principal:
            what = f"{principal.id} has more than {self._of_principal} requests in flight, its share while many are"
            raise TooManyCalls(what, self._wait(now, lambda it: it.id == principal.id))
        if len(self._asked) > 1 and self._addresses[address] > self._of_address:
            what = f"{address} has more than {self._of_address} requests in flight, its share while many are"
            raise TooManyCalls(what, self._wait(now, lambda it: holder_of(it)[0] == address))
        self._principals[principal.id] += 1
        self._addresses[address] += 1

    def _count(self, now: float) -> None:
        self._counted_at = now
        principals = [principal for principal, _ in self._holders()]
        self._principals = Counter(it.id for it in principals)
        self._addresses = Counter(holder_of(it)[0] for it in principals)
        self._asked = {address: asked for address, asked in self._asked.items() if now - asked < WANTED_FOR}

    def _holders(self) -> list[tuple[Principal, Deadline]]:
        return [
            (it.about.agent.principal, it)
            for it in self._running()
            if isinstance(it.about, Exchange) and not it.about.away
        ]

    def _wait(self, now: float, holds: Callable[[Principal], bool]) -> float:
        """Seconds after which a retry may succeed.

        That is the time for which the youngest of its calls has run: when calls are quick, a place is soon free, and
        the longer they all have run, the longer they may still take. The first deadline of them bounds it.
        """
        own = [deadline for principal, deadline in self._holders() if holds(principal)]
        ran = min((now - it.started for it in own), default=0.0)
        first = min((it.when - now for it in own), default=0.0)
        return max(1.0, min(ran, first, MAX_WAIT))
