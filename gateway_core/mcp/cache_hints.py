"""Caching hints: how long, and for whom, a result may be cached (2026-07-28, server/utilities/caching)."""

from __future__ import annotations

from typing import Any, Final

import msgspec

MAX_TTL_MS: Final = 24 * 3600 * 1000
"""Longest time that a list is cached, in milliseconds; longer hints are cut to it."""


class Hint(msgspec.Struct, frozen=True):
    """The caching hint of one result. The default, for a result without one, is stale and private."""

    ttl_ms: int = 0
    public: bool = False

    def merged(self, other: Hint) -> Hint:
        """The hint for a result made of both: the shorter time and the more private scope."""
        return Hint(min(self.ttl_ms, other.ttl_ms), self.public and other.public)

    def members(self) -> dict[str, Any]:
        """The members `ttlMs` and `cacheScope` of a result."""
        return {"ttlMs": self.ttl_ms, "cacheScope": "public" if self.public else "private"}


def hint_of(ttl_ms: Any, scope: Any) -> Hint:
    """The hint in the members `ttlMs` and `cacheScope` of a modern server's result.

    An absent, negative or non-numeric time is 0. Every scope except `public` is private.
    """
    usable = isinstance(ttl_ms, int | float) and ttl_ms > 0
    return Hint(int(min(ttl_ms, MAX_TTL_MS)) if usable else 0, scope == "public")
