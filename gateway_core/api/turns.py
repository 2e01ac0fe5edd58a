"""Turn-taking for routing plugins."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from gateway_core.api.call import Call
from gateway_core.api.upstream import UpstreamView

MAX_NAME: Final = 256
"""Characters of a name that tell turns apart; agents choose URIs, however long. Names that begin alike share turns."""
MAX_UPSTREAMS: Final = 1024
"""Upstreams of one name whose turns are remembered."""


class Turns:
    """Upstreams take turns, for each method and name separately.

    The one that served the name the longest ago is next; among those that never did, the first. So the turns stay even
    when upstreams come, go and fail, which a counter over a changing list would not give. Memory is bounded: what was
    used the longest ago is forgotten first.
    """

    def __init__(self, max_names: int = 4096) -> None:
        """`max_names`: pairs of method and name whose turns are remembered."""
        self._max_names = max_names
        self._turns: OrderedDict[tuple[str, str], OrderedDict[str, int]] = OrderedDict()
        self._turn = 0

    def __len__(self) -> int:
        """Pairs of method and name that are remembered."""
        return len(self._turns)

    def take(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView:
        """The one among `candidates`, which are not empty, whose turn it is to serve `call`; its turn is over then."""
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
