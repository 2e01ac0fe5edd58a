"""Caching hints: for how long, and for whom, an answer may be kept (2026-07-28, server/utilities/caching)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MAX_TTL_MS: Final = 24 * 3600 * 1000
"""Longest time that a list is kept, whatever its server says."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What one answer says about itself. The default is what holds where nothing was said: stale, and private."""

    ttl_ms: int = 0
    public: bool = False

    def merged(self, other: Hint) -> Hint:
        """What holds for an answer that both went into: the shorter time, the more private scope."""
        return Hint(min(self.ttl_ms, other.ttl_ms), self.public and other.public)

    def members(self) -> dict[str, Any]:
        """The two members of a result that say so."""
        return {"ttlMs": self.ttl_ms, "cacheScope": "public" if self.public else "private"}


def hint_of(ttl_ms: Any, scope: Any) -> Hint:
    """What the members `ttlMs` and `cacheScope` of a modern server's answer mean.

    A time that is absent, negative or none at all is 0, and private is whatever is not said to be public.
    """
    usable = isinstance(ttl_ms, int | float) and ttl_ms > 0
    return Hint(int(min(ttl_ms, MAX_TTL_MS)) if usable else 0, scope == "public")
