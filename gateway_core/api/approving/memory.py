"""Approvals that count for later calls, in the memory of one process."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias

MAX_APPROVALS: Final = 10_000
"""Maximum number of approvals; the least recently used are forgotten first."""
MAX_SECONDS: Final = 86_400
"""Seconds for which any approval counts at most, one for a session included."""

Key: TypeAlias = tuple[str, ...]
"""The rule, the principal, its session, and the name of the call with its upstreams."""


class Memory:
    """The approvals that are valid now."""

    def __init__(self) -> None:
        self._until: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def add(self, key: Key, until: float) -> None:
        """Remember an approval until a time of the caller's clock."""
        self._until[key] = until
        self._until.move_to_end(key)
        if len(self._until) > MAX_APPROVALS:
            self._until.popitem(last=False)

    def has(self, key: Key, now: float) -> bool:
        """Whether there is an approval that is still valid."""
        until = self._until.get(key)
        if until is None:
            return False
        if until <= now:
            del self._until[key]
            return False
        self._until.move_to_end(key)
        return True
