"""The upstreams that hold each published name.

An upstream holds a name as long as it is configured, even while it is down or does not offer the item. No upstream
takes a name from another at run time, after a restart, or because the configuration changed.

One case remains, the first contact: an upstream whose list was never known before may have a better claim than the
present holder. It precedes the holder if it came into the configuration earlier, or together with the holder and stands
above it in the file. So the order in which a new configuration's upstreams are reached does not decide who gets a name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import compress
from typing import Final

from gateway_core.api import Kind
from gateway_core.catalog.entry import Entry
from gateway_core.limits.slices import Slices, mapped

MAX_ABSENT: Final = 1_000
"""Names of each kind that an upstream keeps without offering them; the oldest are dropped first."""

Held = tuple[Kind, str]


class Owners:
    """The current holders of names."""

    def __init__(self, generations: Mapping[str, int]) -> None:
        """`generations`: upstream -> a number that grows with each change of the file that added upstreams.

        All configured upstreams in file order; those that are switched off come first.
        """
        self.generations: Final = generations
        self._rank: Final = {name: (generation, at) for at, (name, generation) in enumerate(generations.items())}
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

    def assign(self, holders: Mapping[Held, tuple[str, ...]], known: Iterable[tuple[str, Kind]]) -> None:
        """Record what `assignment` returned. `known`: the upstreams and kinds of the lists that took part."""
        self.known.update(known)
        self.holders = dict(holders)

    def assignment(self, entries: Mapping[Kind, Mapping[str, Entry]]) -> Slices[dict[Held, tuple[str, ...]]]:
        """The holders of all names, once these entries are published, in slices."""
        absent: dict[tuple[Kind, str], int] = {}

        def is_kept(held: Held) -> bool:
            """Whether the name keeps its holders: it is not published, and few enough others are not either."""
            kind, name = held
            if name in entries[kind]:
                return False
            counted = kind, self.holders[held][0]
            absent[counted] = absent.get(counted, 0) + 1
            return absent[counted] <= MAX_ABSENT

        latest_first = list(reversed(self.holders))
        kept = yield from mapped(is_kept, latest_first)
        holders = {held: self.holders[held] for held in reversed([*compress(latest_first, kept)])}
        for kind, published in entries.items():
            named = yield from mapped(_names_of, published.values())
            holders.update(zip(((kind, name) for name in published), named, strict=True))
        return holders


def _names_of(entry: Entry) -> tuple[str, ...]:
    return tuple(upstream.name for upstream in entry.upstreams)
