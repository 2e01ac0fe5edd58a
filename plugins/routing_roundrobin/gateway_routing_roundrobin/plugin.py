"""Rotate over all candidates, regardless of their priority."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_core import Call, Turns, UpstreamView, hookimpl


class RoundRobin:
    """Selects the candidates in turn."""

    def __init__(self) -> None:
        self._turns = Turns()

    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView | None:
        return self._turns.take(call, candidates)
