"""Trace context as agents send it: W3C Trace Context, checked and bounded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_STATE: Final = 512
"""Characters of a `tracestate` that are passed on; whole entries beyond them are left out (Trace Context, 3.3.1.5)."""
SAMPLED: Final = 1
_PARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Context:
    """The trace and the span that a request belongs to."""

    trace: str
    """32 hexadecimal digits."""
    span: str
    """16 hexadecimal digits."""
    sampled: bool
    state: str = ""
    """The value of `tracestate`; empty without one."""

    def headers(self) -> dict[str, str]:
        """The context as `traceparent` and `tracestate`."""
        parent = f"00-{self.trace}-{self.span}-0{int(self.sampled)}"
        return {"traceparent": parent, "tracestate": self.state} if self.state else {"traceparent": parent}


def read(given: Mapping[str, str]) -> Context | None:
    """The context in `traceparent` and `tracestate`; None if there is none, or if it is malformed."""
    found = _PARENT.fullmatch(given.get("traceparent", ""))
    if found is None or (found[1] == "00" and found[5]):
        return None
    return Context(found[2], found[3], bool(int(found[4], 16) & SAMPLED), _bounded(given.get("tracestate", "")))


def _bounded(state: str) -> str:
    """A `tracestate` without the entries that are too much; empty if it is not printable ASCII."""
    if len(state) <= MAX_STATE:
        return state if state.isascii() and state.isprintable() else ""
    kept, size = [], -1
    for entry in state.split(","):
        if size + 1 + len(entry) > MAX_STATE:
            break
        kept.append(entry)
        size += 1 + len(entry)
    return _bounded(",".join(kept))
