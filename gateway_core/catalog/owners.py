"""The upstreams that hold each published name.

An upstream holds a name as long as it is configured, even while it is down or does not offer the item. No upstream
takes a name from another at run time, after a restart, or because the configuration changed.

One case remains, the first contact: an upstream whose list was never known before may have a better claim than the
present holder. It precedes the holder if it came into the configuration earlier, or together with the holder and stands
above it in the file. So the order in which a new configuration's upstreams are reached does not decide who gets a name.
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

    def __init__(self, upstreams: Sequence[str], generations: Mapping[str, int] | None = None) -> None:
        """`upstreams`: all configured names, disabled ones first, the others in file order.

        `generations`: upstream -> a number that grows with each change of the file that added upstreams; default 0.
        """
        self.generations: Final = {name: (generations or {}).get(name, 0) for name in upstreams}
        self._rank: Final = {name: (self.generations[name], number) for number, name in enumerate(upstreams)}
        self.holders: dict[Held, tuple[str, ...]] = {}
        self.known: set[tuple[str, Kind]] = set()
        """(upstream, kind) of every list that took part in an assignment of names so far."""

    def recall(self, holders: Mapping[Held, Sequence[str]], known: Iterable[tuple[str, Kind]]) -> None:
        """Take over what an earlier process recorded, before the first assignment."""
        self.holders.update((held, tuple(owners)) for held, owners in holders.items())
        self.known.update(known)

    def holds(self, kind: Kind, name: str, upstreams: Collection[str]) -> bool:
        """Whether one of these upstreams holds the name."""
        return any(owner in upstreams for owner in self.holders.get((kind, name), ()))

    def kept_from(self, kind: Kind, name: str, upstreams: Collection[str]) -> str | None:
        """The holder that precedes these upstreams; None if they may have the name."""
        holders = self.holders.get((kind, name))
        if holders is None or any(owner in upstreams for owner in holders):
            return None
        first = min(holders, key=self._rank.__getitem__)
        for upstream in upstreams:
            if (upstream, kind) not in self.known and self._rank[upstream] < self._rank[first]:
                return None
        return first

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
