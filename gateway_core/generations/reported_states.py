"""Reports the states of upstreams to the plugins that observe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from gateway_core.api import UpstreamChanged, UpstreamState, UpstreamView
from gateway_core.generations.generation import Generation

MAX_REASON: Final = 1000
"""Characters of a reason."""
_NEED_NO_REASON: Final = frozenset({UpstreamState.HEALTHY, UpstreamState.IDLE, UpstreamState.STOPPED})


class ReportedStates:
    """Tells plugins each change of an upstream in force.

    Upstreams that a reload prepares or has replaced are not in force, whatever their names. A reload itself is a change
    if an upstream then has another state than the one of that name before.
    """

    def __init__(self, current: Callable[[], Generation]) -> None:
        """`current`: the configuration in force."""
        self._current = current
        self._reported: dict[str, UpstreamState] = {}
        """Name of an upstream -> the state that plugins got last."""

    def changed(self, view: UpstreamView) -> None:
        """An upstream has entered another state."""
        current = self._current()
        for upstream in current.upstreams:
            if upstream.view is view:
                self._report(current, view.name, view.state, upstream.status.reason)

    def switched(self) -> None:
        """Another configuration is in force."""
        current = self._current()
        for name in self._reported.keys() - {it.name for it in current.upstreams}:
            self._report(current, name, UpstreamState.STOPPED, "")
            del self._reported[name]
        for upstream in current.upstreams:
            self._report(current, upstream.name, upstream.view.state, upstream.status.reason)

    def _report(self, current: Generation, name: str, state: UpstreamState, reason: str) -> None:
        before = self._reported.get(name, UpstreamState.CONNECTING)
        self._reported[name] = state
        if state is not before:
            why = "" if state in _NEED_NO_REASON else reason[:MAX_REASON]
            current.chain.observers.upstream_changed(
                UpstreamChanged(name, state, before, why, time.time(), current.number)
            )
