"""The claim of the upstream with the lowest priority number keeps a name that clashes; the others are dropped.

Ties go to file order. The core reports what was dropped, in the log and in `rad mcp proxy tools`. `upstream:tool`
still reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core import Claim, ToolConflict, hookimpl


class Priority:
    """The preferred upstream's definition wins."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        return {conflict.name: min(conflict.claims, key=_rank)}


def _rank(claim: Claim) -> tuple[int, int]:
    """Priority number and place in the file of the claim's best upstream; replicas may differ in both."""
    return min((upstream.priority, upstream.order) for upstream in claim.upstreams)
