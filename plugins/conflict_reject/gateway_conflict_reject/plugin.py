"""The first claim keeps a conflicting name; the other claims are dropped.

The core puts earlier holders of the name first, then follows file order. It reports dropped claims in the log
and in `rad mcp proxy tools`. `upstream:tool` still reaches a dropped tool.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core import Claim, ToolConflict, hookimpl


class RejectConflicts:
    """Publishes the first claim only."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        return {conflict.name: conflict.claims[0]}
