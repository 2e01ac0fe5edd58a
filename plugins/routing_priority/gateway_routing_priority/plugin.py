"""The healthy upstream with the lowest priority number serves; equal numbers share the load.

Candidates are healthy ones only, so the backup takes over by itself, and the primary is back as soon as it recovers.
Inside equal numbers the one that served this tool the longest ago is next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from gateway_core import Call, PluginConfig, UpstreamView, hookimpl

MAX_TOOLS: Final = 4096
"""Names whose turns are remembered; the one that was called the longest ago is forgotten first."""


class Priority:
    """Primary and backup, with turns among equals."""

    def __init__(self, config: PluginConfig) -> None:
        self._turns: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self._turn = 0

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        if len(candidates) == 1:
            return candidates[0]
        best = min(upstream.priority for upstream in candidates)
        primaries = [upstream for upstream in candidates if upstream.priority == best]
        if len(primaries) == 1:
            return primaries[0]
        key = (call.method, call.name)
        turns = self._turns.setdefault(key, {})
        self._turns.move_to_end(key)
        if len(self._turns) > MAX_TOOLS:
            self._turns.popitem(last=False)
        chosen = min(primaries, key=lambda upstream: turns.get(upstream.name, 0))
        self._turn += 1
        turns[chosen.name] = self._turn
        return chosen
