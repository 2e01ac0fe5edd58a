"""The claim of the upstream with the lowest priority number keeps a conflicting name; the others are dropped.

Among equal numbers the upstream that holds the name keeps it, else the first in file order. The core reports dropped
claims in the log and in `rad mcp proxy tools`. `upstream:tool` still reaches a dropped tool.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core import Claim, ToolConflict, hookimpl


class PriorityConflicts:
    """Publishes the claim of the upstream with the lowest priority number."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        return {conflict.name: min(conflict.claims, key=_rank)}


def _rank(claim: Claim) -> int:
    """The lowest priority number among the claim's upstreams. Ties keep the order of the claims."""
    return min(upstream.priority for upstream in claim.upstreams)
