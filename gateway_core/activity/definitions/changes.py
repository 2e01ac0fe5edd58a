"""The record of changed definitions, bounded in number and in bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Final

import msgspec

from gateway_core.activity.definitions.differences import What
from gateway_core.api import Kind

MAX_CHANGES: Final = 500
"""Changes that are kept."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the changes that are kept, as JSON."""
MAX_OF_ONE: Final = 4
"""Changes of one definition that are kept: the first one, and the latest."""


class MemberChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A member of a definition before and after, as text: a string as it is, other values as JSON."""

    name: str
    before: str | None
    """None if the definition had no such member."""
    after: str | None
    """None if the definition has no such member now."""
    cut: bool
    """Whether the texts are only the part of the values around the first difference."""


class DefinitionChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A definition that a server changed, added or removed."""

    id: int
    """Counts up, also across restarts. The event of the change has it as `seq`."""
    at: float
    """Seconds since the epoch."""
    upstream: str
    kind: Kind
    name: str
    """What the server calls it: a name, a URI or a URI template."""
    what: What
    members: tuple[MemberChange, ...]
    """The members that differ."""
    more: int
    """Number of further members that differ."""
    seen: bool
    """Whether an operator has marked it as seen."""

    @property
    def of(self) -> tuple[str, Kind, str]:
        """What identifies the definition."""
        return self.upstream, self.kind, self.name


class Record:
    """The changes, oldest first."""

    def __init__(self, changes: Iterable[DefinitionChange] = (), left_out: int = 0) -> None:
        self._sizes: dict[int, int] = {}
        self._size = 0
        self._changes: dict[int, DefinitionChange] = {}
        self._ids: dict[tuple[str, Kind, str], list[int]] = {}
        """The changes of each definition, oldest first."""
        self._numbers: Counter[str] = Counter()
        """Upstream -> number of changes."""
        self.left_out = left_out
        """Number of changes that were dropped before an operator had seen them, since all were seen last."""
        for change in changes:
            self.add(change)

    def __len__(self) -> int:
        return len(self._changes)

    @property
    def unseen(self) -> int:
        """Number of changes that no operator has marked as seen, dropped ones included."""
        return self.left_out + sum(not change.seen for change in self._changes.values())

    @property
    def changes(self) -> tuple[DefinitionChange, ...]:
        """All, oldest first."""
        return tuple(self._changes.values())

    def latest(self, limit: int, admits: Callable[[DefinitionChange], bool]) -> list[DefinitionChange]:
        """The latest ones that `admits` accepts, latest first."""
        return [change for change in reversed(self._changes.values()) if admits(change)][:limit]

    def unseen_of(self, change: DefinitionChange) -> int:
        """Number of kept changes of the same definition that no operator has marked as seen."""
        return sum(not self._changes[number].seen for number in self._ids.get(change.of, ()))

    def repeats_latest(self, change: DefinitionChange) -> bool:
        """Whether the latest kept change of the same definition has the same members, before and after.

        Private lists reach each principal at another moment. A change that principals get one after the other counts
        once. If the definition changes again for one of them before another gets the first change, each change counts
        for each of them: a change can count more than once, but an older equal one never hides it.
        """
        same = self._ids.get(change.of)
        if not same:
            return False
        latest = self._changes[same[-1]]
        return (latest.what, latest.members, latest.more) == (change.what, change.members, change.more)

    def add(self, change: DefinitionChange) -> None:
        """Add a change with an id that no other has. Others are dropped if there is no room: seen ones first."""
        if change.id in self._changes:
            return
        self._changes[change.id] = change
        self._sizes[change.id] = size = len(msgspec.json.encode(change))
        self._size += size
        self._numbers[change.upstream] += 1
        same = self._ids.setdefault(change.of, [])
        same.append(change.id)
        if len(same) > MAX_OF_ONE:
            first = self._changes[same[0]]
            self._drop(first if first.seen else self._changes[same[1]])
        while len(self._changes) > MAX_CHANGES or self._size > MAX_BYTES:
            self._drop(self._least())

    def leave_out(self, number: int) -> None:
        """Count changes that are not kept at all."""
        self.left_out += number

    def mark_seen(self, ids: Collection[int]) -> int:
        """Mark changes as seen; ids of others are ignored. Returns how many were not marked before."""
        marked = 0
        for number in ids:
            change = self._changes.get(number)
            if change is not None and not change.seen:
                self._changes[number] = msgspec.structs.replace(change, seen=True)
                marked += 1
        if all(change.seen for change in self._changes.values()):
            self.left_out = 0
        return marked

    def _drop(self, change: DefinitionChange) -> None:
        del self._changes[change.id]
        self._size -= self._sizes.pop(change.id)
        self._numbers[change.upstream] -= 1
        same = self._ids[change.of]
        same.remove(change.id)
        if not same:
            del self._ids[change.of]
        if not self._numbers[change.upstream]:
            del self._numbers[change.upstream]
        self.left_out += not change.seen

    def _least(self) -> DefinitionChange:
        """The change to drop: one that was seen, or else one of the server with most, changed definitions last."""
        most = max(self._numbers, key=self._numbers.__getitem__)
        return min(
            self._changes.values(), key=lambda one: (not one.seen, one.upstream != most, one.what == "changed", one.id)
        )
