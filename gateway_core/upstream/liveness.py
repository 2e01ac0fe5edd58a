"""Liveness of a server: how to probe it, and how long calls in flight explain its silence.

Any answer is a sign of life, an error included. While a call is in flight the server may be too busy to answer a
probe, so its silence counts only after that call's deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from gateway_core.errors import DeliveryError, RefusedUpstream, UnusableAnswer
from gateway_core.mcp.names import DISCOVER, PING
from gateway_core.upstream.base import Connection, NoMcpAnswer
from gateway_core.upstream.lists.fetched_lists import CAPABILITY, LIST_METHODS

PING_TIMEOUT: Final = 5.0
UNTIMED: Final = 2.0
"""Seconds of silence that a call without a deadline explains: it soon ends or gets a deadline."""


class Liveness:
    """Liveness state of one server. Times are loop times."""

    def __init__(self, connections: Callable[[], Iterable[Connection]]) -> None:
        """`connections` returns those whose calls can keep the server busy."""
        self.last_sign = 0.0
        """Time of the server's last answer. The caller sets it after each answered call."""
        self._connected = 0.0
        self._connections = connections
        self._ping_is_vain = False
        """Whether the server ignores or refuses `ping` or `server/discover`, but answers a list request."""
        self._overdue = -1.0
        """Time at which a call's deadline first passed since `last_sign`; -1 for never."""
        self._patience = 0.0

    def connected(self, now: float) -> None:
        """Record a new connection."""
        self._connected = self.last_sign = now
        self._overdue, self._ping_is_vain = -1.0, False

    @property
    def served(self) -> bool:
        """Whether the server has answered anything on this connection after the handshake."""
        return self.last_sign > self._connected

    def overdue(self, now: float) -> None:
        """Record that a call's deadline passed without an answer. Later calls do not extend the time."""
        if self._overdue < self.last_sign:
            self._overdue, self._patience = now, self._latest(now)

    def explained_until(self, now: float) -> float:
        """The time until which calls in flight explain the server's silence."""
        return self._patience if self._overdue >= self.last_sign else self._latest(now)

    def _latest(self, now: float) -> float:
        return max((busy_until(connection, now) for connection in self._connections()), default=0.0)

    async def check(self, connection: Connection) -> None:
        """Probe the server. Raises `DeliveryError`, or `TimeoutError` if no answer comes in `PING_TIMEOUT` seconds."""
        listing = _list_of(connection)
        try:
            await _ask(connection, listing if self._ping_is_vain and listing is not None else _question(connection))
        except NoMcpAnswer:
            # A bare HTTP status may come from a proxy whose server is down.
            if listing is not None and not await self.answers_a_list(connection):
                raise
        except RefusedUpstream:
            if not await self.answers_a_list(connection):
                raise

    async def answers_a_list(self, connection: Connection) -> bool:
        """Ask for a list. If the server answers, later checks ask for the list instead of a ping."""
        listing = _list_of(connection)
        if self._ping_is_vain or listing is None:
            return False
        try:
            await _ask(connection, listing)
        except (DeliveryError, TimeoutError):
            return False
        self._ping_is_vain = True
        return True


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


def _list_of(connection: Connection) -> str | None:
    """The method of the first list that the server's capabilities announce; None without any."""
    announced = connection.info.capabilities if connection.info is not None else {}
    return next((method for kind, method in LIST_METHODS.items() if CAPABILITY[kind] in announced), None)
