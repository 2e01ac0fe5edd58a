"""Who holds which published name.

A name that agents know stays with the upstream that holds it as long as that upstream is configured, also while the
upstream is down or does not offer the thing at the moment. The order of the file settles a name among upstreams whose
lists become known for the first time; later additions to a known list come after the holder. So names do not depend
on the order in which upstreams are reached, and no upstream takes a name from another at run time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from gateway_core.api import Kind
from gateway_core.catalog.entry import Entry

MAX_ABSENT: Final = 1_000
"""Names of one upstream that stay its own although it does not offer them; past it the oldest are given up."""

Held = tuple[Kind, str]


class Owners:
    """The holders of names, as settled last."""

    def __init__(self, upstreams: Sequence[str]) -> None:
        """`upstreams`: all configured names, in file order."""
        self._order: Final = {name: number for number, name in enumerate(upstreams)}
        self.holders: dict[Held, tuple[str, ...]] = {}
        self.known: set[tuple[str, Kind]] = set()
        """Upstreams, each with a kind of list, that took part when names were settled."""

    def holds(self, kind: Kind, name: str, upstreams: Collection[str]) -> bool:
        """Whether one of the upstreams holds the name."""
        return any(owner in upstreams for owner in self.holders.get((kind, name), ()))

    def late(self, kind: Kind, name: str, upstreams: Collection[str]) -> bool:
        """Whether others hold the name, and had it before these known upstreams offered it."""
        holders = self.holders.get((kind, name))
        if holders is None or any(owner in upstreams for owner in holders):
            return False
        return all((upstream, kind) in self.known for upstream in upstreams)

    def kept_from(self, kind: Kind, name: str, upstreams: Collection[str]) -> str | None:
        """The holder that a name is kept for although it does not claim it now; None if these may have it."""
        holders = self.holders.get((kind, name))
        if holders is None or any(owner in upstreams for owner in holders):
            return None
        first = min(holders, key=self._order.__getitem__)
        if self.late(kind, name, upstreams) or min(map(self._order.__getitem__, upstreams)) > self._order[first]:
            return first
        return None

    def settle(self, kind: Kind, entries: Mapping[str, Entry], known: Iterable[str]) -> None:
        """Take note of who has which name of one kind; `known` are the upstreams whose list of it took part."""
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
