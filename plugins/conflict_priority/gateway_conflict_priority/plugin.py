"""The claim of the upstream with the lowest priority number keeps a conflicting name; the others are dropped.

File order breaks ties. The core reports dropped claims in the log and in `rad mcp proxy tools`. `upstream:tool` still
reaches a dropped tool.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core import Claim, ToolConflict, hookimpl


class Priority:
    """Publishes the claim of the upstream with the lowest priority number."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        return {conflict.name: min(conflict.claims, key=_rank)}


def _rank(claim: Claim) -> tuple[int, int]:
    """The lowest priority number and file position among the claim's upstreams; replicas may differ in both."""
    return min((upstream.priority, upstream.order) for upstream in claim.upstreams)
