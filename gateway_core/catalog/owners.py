"""The upstreams that hold each published name.

An upstream holds a name as long as it is configured, even while it is down or does not offer the item. Among upstreams
whose lists become known for the first time, the first one in file order gets the name. Later additions to a known list
come after the holder. So names do not depend on the order in which upstreams are reached, and no upstream takes a name
from another at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from gateway_core.api import Kind
from gateway_core.catalog.entry import Entry

MAX_ABSENT: Final = 1_000
"""Names of each kind that an upstream keeps without offering them; the oldest are dropped first."""

Held = tuple[Kind, str]


class Owners:
    """The current holders of names."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        """`upstreams`: all configured names, in file order."""
        self._order: Final = {name: number for number, name in enumerate(upstreams)}
        self.holders: dict[Held, tuple[str, ...]] = {}
        self.known: set[tuple[str, Kind]] = set()
        """(upstream, kind) of every list that took part in an assignment of names so far."""

    def holds(self, kind: Kind, name: str, upstreams: Collection[str]) -> bool:
        """Whether one of these upstreams holds the name."""
        return any(owner in upstreams for owner in self.holders.get((kind, name), ()))

    def late(self, kind: Kind, name: str, upstreams: Collection[str]) -> bool:
        """Whether others hold the name, and the lists of all these upstreams already took part before."""
        holders = self.holders.get((kind, name))
        if holders is None or any(owner in upstreams for owner in holders):
            return False
        return all((upstream, kind) in self.known for upstream in upstreams)

    def kept_from(self, kind: Kind, name: str, upstreams: Collection[str]) -> str | None:
        """The holder that the name is reserved for; None if these upstreams may have it."""
        holders = self.holders.get((kind, name))
        if holders is None or any(owner in upstreams for owner in holders):
            return None
        first = min(holders, key=self._order.__getitem__)
        if self.late(kind, name, upstreams) or min(map(self._order.__getitem__, upstreams)) > self._order[first]:
            return first
        return None

    def assign(self, kind: Kind, entries: Mapping[str, Entry], known: Iterable[str]) -> None:
        """Record the holders of all names of one kind. `known`: the upstreams whose list of that kind took part."""
        self.known.update((upstream, kind) for upstream in known)
        absent: dict[str, int] = {}
        kept: list[tuple[Held, tuple[str, ...]]] = []
        for held, owners in reversed(self.holders.items()):
            if held[0] == kind and held[1] not in entries:
                absent[owners[0]] = absent.get(owners[0], 0) + 1
                if absent[owners[0]] > MAX_ABSENT:
                    continue
            elif held[0] == kind:
                continue
            kept.append((held, owners))
        self.holders = dict(reversed(kept))
        for name, entry in entries.items():
            self.holders[kind, name] = tuple(upstream.name for upstream in entry.upstreams)
