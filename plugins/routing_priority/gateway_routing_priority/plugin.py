"""Route to the candidate with the lowest priority number; rotate among equal numbers.

The core offers healthy candidates if there are any, so the backup takes over until the primary recovers.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway_core import Call, Turns, UpstreamView, hookimpl


class PriorityRouting:
    """Selects by priority number, and rotates among equal ones."""

    def __init__(self) -> None:
        self._turns = Turns()

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        if len(candidates) == 1:
            return candidates[0]
        best = min(upstream.priority for upstream in candidates)
        return self._turns.take(call, [upstream for upstream in candidates if upstream.priority == best])
