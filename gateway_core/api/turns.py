"""Round-robin selection for routing plugins."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from gateway_core.api.call import Call
from gateway_core.api.upstream import UpstreamView

MAX_NAME: Final = 256
"""Characters of a name that count, because agents choose URIs of any length. Names with one prefix share turns."""
MAX_UPSTREAMS: Final = 1024
"""Upstreams that are remembered for one name."""


class Turns:
    """Selects upstreams in turn, separately for each method and name.

    The least recently selected upstream is next; among those never selected, the first. The load stays even when
    upstreams come, go and fail, which a counter over a changing list does not ensure. Memory is bounded: the least
    recently used entry is evicted first.
    """

    def __init__(self, max_names: int = 4096) -> None:
        """`max_names`: maximum number of remembered pairs of method and name."""
        self._max_names = max_names
        self._turns: OrderedDict[tuple[str, str], OrderedDict[str, int]] = OrderedDict()
        self._turn = 0

    def __len__(self) -> int:
        """Number of remembered pairs of method and name."""
        return len(self._turns)

    def take(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView:
        """Select the next of `candidates`, which must not be empty. The choice is not recorded if there is only one."""
        if len(candidates) == 1:
            return candidates[0]
        key = (call.method, call.name[:MAX_NAME])
        turns = self._turns.get(key)
        if turns is None:
            turns = self._turns[key] = OrderedDict()
            if len(self._turns) > self._max_names:
                self._turns.popitem(last=False)
        else:
            self._turns.move_to_end(key)
        chosen = min(candidates, key=lambda upstream: turns.get(upstream.name, 0))
        self._turn += 1
        turns[chosen.name] = self._turn
        turns.move_to_end(chosen.name)
        if len(turns) > MAX_UPSTREAMS:
            turns.popitem(last=False)
        return chosen
