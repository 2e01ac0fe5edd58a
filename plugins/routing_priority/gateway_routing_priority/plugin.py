"""The healthy upstream with the lowest priority number serves; equal numbers take turns.

Candidates are healthy ones only, so the backup takes over by itself, and the primary is back as soon as it recovers.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway_core import Call, PluginConfig, Turns, UpstreamView, hookimpl


class Priority:
    """Primary and backup, with turns among equals."""

    def __init__(self, config: PluginConfig) -> None:
        self._turns = Turns()

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        if len(candidates) == 1:
            return candidates[0]
        best = min(upstream.priority for upstream in candidates)
        return self._turns.take(call, [upstream for upstream in candidates if upstream.priority == best])
