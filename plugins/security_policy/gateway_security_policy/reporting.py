"""Lines of the mode `report`: what the rules would have refused or asked about.

One line a minute for each principal, name and rule.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway_core import Call, note
from gateway_security_policy.plans import Verdict

INTERVAL: Final = 60.0
MAX_KEYS: Final = 4096
_MAX_NAME: Final = 128


class Report:
    """Writes the lines."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: OrderedDict[tuple[str, str, str, str], float] = OrderedDict()

    def stopped(self, call: Call, verdict: Verdict) -> None:
        """Write that the call would not have gone on at once, unless the same line is less than a minute old."""
        rule = verdict.label
        # A URI may contain secrets; the access log has it without them, under the same exchange.
        name = (call.name if call.tool is None else call.tool.name) if call.kind in {"tool", "prompt"} else ""
        name = "" if call.method.startswith("tasks/") else name[:_MAX_NAME]
        key = (call.principal.id, call.method, name, rule)
        now = self._clock()
        if now < self._written.get(key, float("-inf")) + INTERVAL:
            return
        self._written[key] = now
        self._written.move_to_end(key)
        while len(self._written) > MAX_KEYS:
            self._written.popitem(last=False)
        fields = {
            "exchange": call.exchange_id,
            "agent": call.principal.id,
            "rule": rule,
            "generation": call.generation,
        }
        what = "ask a person about" if verdict.effect == "ask" else "refuse"
        note(f"security_policy would {what} {call.method} {name}".rstrip(), fields)
