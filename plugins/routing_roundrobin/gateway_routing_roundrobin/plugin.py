"""Rotate over all upstreams that have the tool, whatever their priority.

The one that served this tool the longest ago is next; among those that never did, file order. So the turns stay even
when upstreams come, go and fail, which a plain counter over a changing list would not give.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from gateway_core import Call, PluginConfig, UpstreamView, hookimpl

MAX_TOOLS: Final = 4096
"""Names whose turns are remembered; the one that was called the longest ago is forgotten first."""


class RoundRobin:
    """Every candidate in turn."""

    def __init__(self, config: PluginConfig) -> None:
        self._turns: OrderedDict[tuple[str, str], dict[str, int]] = OrderedDict()
        self._turn = 0

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        if len(candidates) == 1:
            return candidates[0]
        key = (call.method, call.name)
        turns = self._turns.setdefault(key, {})
        self._turns.move_to_end(key)
        if len(self._turns) > MAX_TOOLS:
            self._turns.popitem(last=False)
        chosen = min(candidates, key=lambda upstream: turns.get(upstream.name, 0))
        self._turn += 1
        turns[chosen.name] = self._turn
        return chosen
