"""What is measured: the parts of a run, each some scenarios on one stage, and which targets meet them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from mcp_client import NUMBER, TEXT, Ask

ERAS = ("legacy", "modern")
_WORDS = " order=4711 state=shipped note=left-at-the-door"
_SECRET = " token=3f9c2a"

SIZES = {
    "100B": Ask(TEXT),
    "1KB": Ask(f"{NUMBER}{_SECRET}{_WORDS * 10}{_SECRET}{_WORDS * 11}"[:1000]),
    "1KB-secrets": Ask(f"{NUMBER}{(_SECRET + _WORDS) * 17}"[:1000]),
    "4KB-prose": Ask(kind="prose"),
    "4KB-json": Ask(kind="rows"),
    "10KB": Ask(repeat=100),
    "1MB": Ask(repeat=10_000),
}
"""Result -> the call that asks for it. What has 1 KB goes both ways, with words that a redactor has something to do
with: two secrets in `1KB`, one in every 59 characters in `1KB-secrets`. `4KB-prose` and `4KB-json` are results whose
text is prose, and rows of JSON with all their brackets and escaped quotes.
"""

_ARGUMENT_BYTES = [round(20 * 300 ** (step / 15)) for step in range(16)]


def agent_calls() -> list[Ask]:
    """The calls of an agent as they are, the same sequence in each run.

    Every pair of 16 sizes of the arguments, from 20 B to 6 KB in equal ratios, and of four kinds of results (a short
    text, 4 KB of prose, of source code, of JSON rows inside the text), once as the shortest JSON and once as Python's
    `json.dumps` writes it. Each request has a trace and a progress token that no other has.
    """
    every = itertools.product(_ARGUMENT_BYTES, (False, True), ("", "prose", "code", "rows"))
    asks = [Ask(str(NUMBER), kind=kind, size=size, traced=True, spaced=spaced) for size, spaced, kind in every]
    random.Random(20).shuffle(asks)  # the generator is the same in all versions of Python
    return asks


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
    """`what` is "call" (the same request again and again), "agent" (calls that differ, see `agent_calls`) or "list";
    a list of more than a page of tools is its first page."""

    era: str
    connections: int
    size: str = "100B"
    what: str = "call"
    stage: str = "one"

    @property
    def label(self) -> str:
        """How the tables call it; the number of connections is in their headings."""
        where = {"one": "", "sse": ", upstream answers as SSE"}.get(self.stage, f", {self.stage}")
        asked = {"call": self.size, "agent": "as they are", "list": "list"}[self.what]
        return f"{self.era}, {asked}{where}"


PARTS = {
    "calls": "One call with a result of 100 B",
    "agents": "Agents as they are",
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
    if part == "agents":
        return [Scenario(era, some, what=what) for era in eras for what in ("call", "agent")]
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
    """Who takes part: everybody in calls, agents and sizes; with many upstreams only who can join them."""
    if part in {"calls", "agents", "sizes"}:
        return list(chosen)
    if part == "fleets":
        return [name for name in chosen if name == "gateway-quiet"]
    return [name for name in chosen if name in NARROW]
