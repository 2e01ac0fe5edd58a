"""Liveness of a server: how to probe it, and how long calls in flight explain its silence.

Any answer is a sign of life, an error included. While a call is in flight the server may be too busy to answer a
probe, so its silence counts only after that call's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final

from gateway_core.api import Kind
from gateway_core.errors import DeliveryError, RefusedUpstream, UnusableAnswer
from gateway_core.mcp.names import DISCOVER, PING
from gateway_core.upstream.base import Connection, NoMcpAnswer
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS

PING_TIMEOUT: Final = 5.0
PROOF: Final = 2
"""Connections in a row that were lost during a ping, after which the server is not pinged any more."""
UNTIMED: Final = 2.0
"""Seconds of silence that a call without a deadline explains: it soon ends or gets a deadline."""


class Liveness:
    """Liveness state of one server. Times are loop times."""

    def __init__(
        self,
        connections: Callable[[], Iterable[Connection]],
        fatal_lists: Callable[[], Collection[Kind]] = frozenset,
    ) -> None:
        """`connections`: connections whose calls can keep the server busy. `fatal_lists`: lists that end it."""
        self.last_sign = 0.0
        """Time of the server's last answer."""
        self.served = False
        """Whether the server has answered a call on this connection."""
        self._connections = connections
        self._ping_is_vain = False
        """Whether the server ignores or refuses `ping` or `server/discover`, but answers a list request."""
        self._fatal_pings = 0
        """How many connections in a row were lost during a ping, with nothing else in flight."""
        self._fatal_lists = fatal_lists
        self._overdue = -1.0
        """Time at which a call's deadline first passed since `last_sign`; -1 for never."""
        self._patience = 0.0

    def connected(self, now: float) -> None:
        """Record a new connection."""
        self.last_sign, self.served = now, False
        self._overdue, self._ping_is_vain = -1.0, self._fatal_pings >= PROOF

    def answered(self, now: float) -> None:
        """Record an answered call."""
        self.last_sign, self.served = now, True

    def checked(self, now: float) -> None:
        """Record a successful check."""
        self.last_sign = now

    def overdue(self, now: float) -> None:
        """Record that a call's deadline passed without an answer. Later calls do not extend the time."""
        if self._overdue < self.last_sign:
            self._overdue, self._patience = now, self._latest(now)

    def explained_until(self, now: float) -> float:
        """The time until which calls in flight explain the server's silence."""
        return self._patience if self._overdue >= self.last_sign else self._latest(now)

    def _latest(self, now: float) -> float:
        return max((busy_until(connection, now) for connection in self._connections()), default=0.0)

    async def check(self, connection: Connection, *, confirm: bool) -> None:
        """Probe the server. Raises `DeliveryError`, or `TimeoutError` if no answer comes in `PING_TIMEOUT` seconds.

        `confirm`: ask for a list, too, if the probe gets no answer.
        """
        listing = self._list_of(connection)
        if self._ping_is_vain and (listing is not None or self._fatal_pings >= PROOF):
            if listing is not None:
                await _ask(connection, listing)
            return
        alone = not connection.in_flight()
        try:
            await _ask(connection, _question(connection))
        except (DeliveryError, TimeoutError) as problem:
            if connection.closed:
                self._fatal_pings += alone
                raise
            # A bare HTTP status may come from a proxy whose server is down.
            answered = isinstance(problem, NoMcpAnswer | RefusedUpstream)
            if answered and listing is None:
                return
            if not ((answered or confirm) and await self._answers(connection, listing)):
                raise
        else:
            self._fatal_pings = 0

    async def _answers(self, connection: Connection, listing: str | None) -> bool:
        """Ask for a list. If the server answers, later checks ask for the list instead of a ping."""
        if listing is None:
            return False
        try:
            await _ask(connection, listing)
        except (DeliveryError, TimeoutError):
            return False
        self._ping_is_vain = True
        return True

    def _list_of(self, connection: Connection) -> str | None:
        """The method of the first list that the server announces and survives; None without any."""
        announced = connection.info.capabilities if connection.info is not None else {}
        kinds = (kind for kind in LIST_METHODS if CAPABILITY[kind] in announced and kind not in self._fatal_lists())
        return next((LIST_METHODS[kind] for kind in kinds), None)


def busy_until(connection: Connection, now: float) -> float:
    """The time until which calls on a connection may keep its server from answering anything else."""
    deadlines = (exchange.deadline for exchange in connection.in_flight())
    ends = (now + UNTIMED if deadline is None else deadline.when for deadline in deadlines)
    return max(connection.excused_until, max(ends, default=0.0))


async def _ask(connection: Connection, method: str) -> None:
    try:
        async with asyncio.timeout(PING_TIMEOUT):
            await connection.request(method, {})
    except UnusableAnswer:
        return


def _question(connection: Connection) -> str:
    return DISCOVER if connection.info is not None and connection.info.era == "modern" else PING
