"""A limit on connections, in which an idle connection gives way to a new one."""

from __future__ import annotations

from itertools import chain, islice
from typing import Final, Protocol

from gateway_core.limits.shares import Shares

EXAMINED: Final = 128
"""Connections that are examined for one that gives way."""


class Holder(Protocol):
    """What the limit needs of a connection."""

    network: str
    """The network that the connection counts for; see `shares.network_of`."""

    @property
    def idle_since(self) -> float | None:
        """When it became idle, on the monotonic clock; None while a request is served or a response is sent."""

    def give_way(self) -> None:
        """Close, because another connection needs the place."""


class ConnectionLimit:
    """Connections that hold one of `limit` places.

    At the limit, the longest idle connection of the network with most gives way. A newcomer never takes the place of a
    network that has fewer than its own.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shares: Shares[Holder] = Shares()

    def limit_to(self, limit: int) -> None:
        """Apply another limit. Connections that hold a place keep it."""
        self._limit = limit

    def __len__(self) -> int:
        return len(self._shares)

    def admit(self, connection: Holder) -> bool:
        """Give the connection a place, which it must not have yet; False if all are taken and none gives way."""
        network = connection.network
        if len(self._shares) >= self._limit:
            idle = self._idlest(network)
            if idle is None:
                return False
            self.leave(idle)
            idle.give_way()
        self._shares.add((network, ""), connection)
        return True

    def leave(self, connection: Holder) -> None:
        """Free the place of a connection, if it holds one."""
        self._shares.remove(connection)

    def _idlest(self, network: str) -> Holder | None:
        """The connection that gives way to one of `network`."""
        newcomer = (network, "")
        for holder in chain(self._shares.above(newcomer), (newcomer,)):
            found, since = None, 0.0
            for connection in list(islice(self._shares.of(holder), EXAMINED)):
                idle = connection.idle_since
                if idle is None:
                    self._shares.renew(connection)  # the next search begins behind it
                elif found is None or idle < since:
                    found, since = connection, idle
            if found is not None:
                return found
        return None
