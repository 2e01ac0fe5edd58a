"""The first upstream in file order keeps a name that clashes; what the others offer under it is dropped.

The core reports what was dropped, in the log and in `rad mcp proxy tools`. `upstream:tool` still reaches it.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway_core import Claim, ToolConflict, hookimpl


class Reject:
    """First come, first served."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        return {conflict.name: conflict.claims[0]}
