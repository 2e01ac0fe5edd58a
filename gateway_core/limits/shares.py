"""Who holds the places of a bounded resource: by network, and by name within a network.

Where places are short, a holder with more gives one up to a newcomer with fewer. Agents invent names at no cost, so a
network counts before its names. Agents behind one proxy share a network, and are then told apart by their names.
"""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

Holder: TypeAlias = tuple[str, str]
"""The network of a holder, and its name there."""

CONSIDERED: Final = 8
"""Networks, and names of each, that are considered when one has to give a place up."""


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What counts as one origin: an IPv4 address, or the /64 of an IPv6 address, of which one host has all."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class Principal(Protocol):
    """An agent; see `api.Principal`."""

    @property
    def id(self) -> str: ...
    @property
    def verified(self) -> bool: ...
    @property
    def address(self) -> str: ...


def holder_of(principal: Principal) -> Holder:
    """The holder that the places of an agent count for. A verified one counts for itself, wherever it calls from."""
    return principal.id if principal.verified else network_of(principal.address), principal.id


class Shares(Generic[T]):
    """The items that hold places, oldest first, by the network and the name of their holders."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, dict[T, None]]] = {}
        """Network -> name -> items. Without empty entries, so it is false if no place is held."""
        self._holders: dict[T, Holder] = {}
        self._counts: dict[str, int] = {}
        """Network -> its places."""

    def __len__(self) -> int:
        return len(self._holders)

    def __contains__(self, item: T) -> bool:
        return item in self._holders

    def add(self, holder: Holder, item: T) -> None:
        """Record one more place. `item` must not hold one yet."""
        network, name = self._holders[item] = holder
        self.held.setdefault(network, {}).setdefault(name, {})[item] = None
        self._counts[network] = self._counts.get(network, 0) + 1

    def remove(self, item: T) -> bool:
        """Forget a place; False if `item` holds none."""
        if item not in self._holders:
            return False
        network, name = self._holders.pop(item)
        names = self.held[network]
        items = names[name]
        del items[item]
        self._counts[network] -= 1
        if not items:
            del names[name]
        if not names:
            del self.held[network], self._counts[network]
        return True

    def renew(self, item: T) -> None:
        """Make an item the newest of its holder."""
        items = self.of(self._holders[item])
        del items[item]
        items[item] = None

    def of_network(self, network: str) -> int:
        """The number of places that a network holds."""
        return self._counts.get(network, 0)

    def holder(self, item: T) -> Holder:
        """The holder of an item that holds a place."""
        return self._holders[item]

    def of(self, holder: Holder) -> dict[T, None]:
        """The items of one holder, oldest first."""
        network, name = holder
        return self.held.get(network, {}).get(name, {})

    def take_turn(self) -> T:
        """Remove and return the oldest item of the holder whose turn it is. Networks take turns, and so do the names of
        each."""
        network, names = next(iter(self.held.items()))
        name, items = next(iter(names.items()))
        item = next(iter(items))
        self.remove(item)
        if name in names:
            names[name] = names.pop(name)
        if network in self.held:
            self.held[network] = self.held.pop(network)
        return item

    def above(self, newcomer: Holder, margin: int = 1) -> Iterator[Holder]:
        """The holders that have at least `margin` more than `newcomer`, the largest first.

        Holders in other networks count by their network, those in the same one by their name.
        """
        network, name = newcomer
        least = self.of_network(network) + margin
        largest = heapq.nlargest(CONSIDERED, self._counts.items(), key=lambda it: it[1])
        networks = [it for it, count in largest if it == network or count >= least]
        if network in self.held and network not in networks:
            networks.append(network)
        for other in networks:
            few = len(self.of(newcomer)) + margin if other == network else 1
            names = heapq.nlargest(CONSIDERED, self.held[other].items(), key=lambda it: len(it[1]))
            yield from ((other, it) for it, items in names if len(items) >= few and (other != network or it != name))
