"""Which request states were used.

A used state is remembered until it expires. If one holder (see `limits.shares`) uses too many for that, its oldest
states all count as used, whether they were or not. So the rounds of one never let another use a state twice, and memory
is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import msgspec

MAX_USED: Final = 65_536
"""Used states that are remembered in all, and holders of which anything is remembered."""
MAX_OF_ONE: Final = 4_096
"""Used states of one holder that are remembered."""


class _Holder(msgspec.Struct, eq=False):
    """The used states of one holder."""

    used: dict[bytes, float] = {}
    """Nonce -> the time when the state was issued."""
    refused: float = -math.inf
    """States that were issued up to this time count as used."""

    def forget(self, until: float) -> None:
        """Forget states that were issued before a time, because they have expired."""
        for nonce in [nonce for nonce, issued in self.used.items() if issued < until]:
            del self.used[nonce]

    def keep(self, number: int) -> None:
        """Remember the latest `number` of states, and refuse all that were issued before."""
        oldest = sorted(self.used.items(), key=lambda it: it[1])[: max(0, len(self.used) - number)]
        for nonce, issued in oldest:
            del self.used[nonce]
            self.refused = max(self.refused, issued)


class UsedStates:
    """The used states of all holders."""

    def __init__(self, clock: Callable[[], float], life: float) -> None:
        """`clock`: of the times when states were issued, in seconds. `life`: seconds until any state has expired."""
        self._clock = clock
        self._life = life
        self._holders: dict[str, _Holder] = {}
        """The least recently active first."""
        self._count = 0
        self._refused = -math.inf
        """States of any holder that were issued up to this time count as used."""

    def remember_for(self, life: float) -> None:
        """Remember states for `life` seconds, or longer if they were to be remembered for longer before."""
        self._life = max(self._life, life)

    def __len__(self) -> int:
        return self._count

    def has(self, holder: str, nonce: bytes, issued: float) -> bool:
        """Whether a state counts as used. `issued`: when it was issued."""
        if issued <= self._refused:
            return True
        found = self._holders.get(holder)
        return found is not None and (nonce in found.used or issued <= found.refused)

    def add(self, holder: str, nonce: bytes, issued: float) -> None:
        """Mark a state as used."""
        if self._count >= MAX_USED or len(self._holders) >= MAX_USED:
            self._make_room()
        found = self._holders[holder] = self._holders.pop(holder) if holder in self._holders else _Holder()
        before = len(found.used)
        found.used[nonce] = issued
        if len(found.used) > MAX_OF_ONE:
            found.forget(self._clock() - self._life)
            found.keep(MAX_OF_ONE // 2)
        self._count += len(found.used) - before

    def remove(self, holder: str, nonce: bytes) -> None:
        """Mark a state as not used, unless it counts as used for its age."""
        found = self._holders.get(holder)
        if found is not None and found.used.pop(nonce, None) is not None:
            self._count -= 1

    def _make_room(self) -> None:
        """Forget what has expired. Then halve what is left: every holder keeps an equal share at most."""
        oldest = self._clock() - self._life
        for name, found in list(self._holders.items()):
            found.forget(oldest)
            if not found.used and found.refused < oldest:
                del self._holders[name]
        for name in list(self._holders)[: max(0, len(self._holders) - MAX_USED // 2)]:
            found = self._holders.pop(name)
            self._refused = max(self._refused, found.refused, *found.used.values())
        share = MAX_USED // 2 // max(1, len(self._holders))
        for found in self._holders.values():
            found.keep(share)
        self._count = sum(len(found.used) for found in self._holders.values())
