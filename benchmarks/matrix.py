"""What is measured: the parts of a run, each some scenarios on one stage, and which targets meet them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mcp_client import NUMBER, TEXT

ERAS = ("legacy", "modern")
_WORDS = " order=4711 state=shipped note=left-at-the-door"
_SECRET = " token=3f9c2a"

SIZES = {
    "100B": (TEXT, 1),
    "1KB": (f"{NUMBER}{_SECRET}{_WORDS * 10}{_SECRET}{_WORDS * 11}"[:1000], 1),
    "1KB-secrets": (f"{NUMBER}{(_SECRET + _WORDS) * 17}"[:1000], 1),
    "10KB": (TEXT, 100),
    "1MB": (TEXT, 10_000),
}
"""Text of a result -> the text of the request, and how often the upstream repeats it. What has 1 KB goes both ways,
with words that a redactor has something to do with: two secrets in `1KB`, one in every 59 characters in `1KB-secrets`.
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands behind the targets: some upstreams with their tools, which answer as JSON or as SSE."""

    upstreams: int = 1
    tools: int = 50
    sse: bool = False


STAGES = {
    "one": Stage(),
    "sse": Stage(sse=True),
    "500 tools": Stage(tools=500),
    "10 upstreams": Stage(upstreams=10),
    "100 upstreams": Stage(upstreams=100),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """`what` is "call" or "list"; a list of more than a page of tools is its first page."""

    era: str
    connections: int
    size: str = "100B"
    what: str = "call"
    stage: str = "one"

    @property
    def label(self) -> str:
        """How the tables call it; the number of connections is in their headings."""
        where = {"one": "", "sse": ", upstream answers as SSE"}.get(self.stage, f", {self.stage}")
        return f"{self.era}, {self.size if self.what == 'call' else 'list'}{where}"


PARTS = {
    "calls": "One call with a result of 100 B",
    "sizes": "Results of different sizes",
    "sse": "An upstream that answers as SSE",
    "lists": "`tools/list`",
    "fleets": "Many upstreams with 50 tools each",
}
"""Part of a run -> heading of its tables."""
NARROW = ("direct", "nginx", "gateway-quiet")
"""The targets of the parts that compare the gateway's own ways only."""


def plan(part: str, connections: Sequence[int], eras: Sequence[str], sizes: Sequence[str]) -> list[Scenario]:
    """The scenarios of a part. All but the calls are measured at one number of connections: 16, or the one given.

    What is compared with the usual call has one beside it, for noise that lasts shorter than a round.
    """
    some = 16 if 16 in connections else connections[-1]
    if part == "calls":
        return [Scenario(era, count) for count in connections for era in eras]
    if part == "sizes":
        return [Scenario(eras[0], some, size) for size in sizes]
    if part == "sse":
        return [Scenario(era, some, size, stage="sse") for era in eras for size in ("100B", "10KB") if size in sizes]
    if part == "lists":
        return [
            Scenario(eras[0], some, what="list"),
            *(Scenario(era, some, what="list", stage="500 tools") for era in eras),
        ]
    behind = ("one", "10 upstreams", "100 upstreams")
    return [Scenario(eras[0], some, what=what, stage=stage) for what in ("call", "list") for stage in behind]


def targets_of(part: str, chosen: Sequence[str]) -> list[str]:
    """Who takes part: everybody in calls and sizes; with many upstreams only who can join them."""
    if part in {"calls", "sizes"}:
        return list(chosen)
    if part == "fleets":
        return [name for name in chosen if name == "gateway-quiet"]
    return [name for name in chosen if name in NARROW]
