"""What the gateway is to reach, beside what was measured: ratios within one run, so that the machine cancels out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matrix import ERAS, Scenario
from report import Row, added, key, number, ratios

QUIET = "gateway-quiet"
Figure = Callable[[Sequence[Row], str], list[float]]
"""(rows, era) -> a value for each round in which all that it needs was measured."""


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: float
    unit: str
    figure: Figure
    at_least: bool = False

    def wanted(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g} {self.unit}"

    def measured(self, rows: Sequence[Row]) -> tuple[str, bool] | None:
        """The medians, with the era where both were measured, and whether all reach the goal; None: not measured."""
        values = {era: statistics.median(found) for era in ERAS if (found := self.figure(rows, era))}
        if not values:
            return None
        reached = all(value >= self.limit if self.at_least else value <= self.limit for value in values.values())
        if len(set(values.values())) == 1:
            return number(next(iter(values.values()))), reached
        return ", ".join(f"{era} {number(value)}" for era, value in values.items()), reached


def of(rows: Sequence[Row], target: str, scenario: Scenario, part: str = "calls") -> list[Row]:
    """The good measurements of a target in a scenario of a part."""
    wanted = {"target": target, "part": part, **key(scenario)}
    return [row for row in rows if "cpu_us" in row and wanted.items() <= row.items()]


def against(
    target: str, base: str, connections: int = 16, name: str = "cpu_us", part: str = "calls", **more: str
) -> Figure:
    """A figure of `target` as a multiple of that of `base` in the same scenario."""

    def figure(rows: Sequence[Row], era: str) -> list[float]:
        scenario = Scenario(era, connections, **more)
        return list(ratios(of(rows, target, scenario, part), of(rows, base, scenario, part), name).values())

    return figure


def against_itself(target: str, part: str, base: str = "100B", **more: str) -> Figure:
    """CPU per call of `target` as a multiple of its own for `base` from one upstream, measured in the same part."""

    def figure(rows: Sequence[Row], era: str) -> list[float]:
        mine, usual = Scenario(era, 16, **more), Scenario(era, 16, base)
        return list(ratios(of(rows, target, mine, part), of(rows, target, usual, part), "cpu_us").values())

    return figure


def added_p50(rows: Sequence[Row], era: str) -> list[float]:
    """What the gateway adds to the upstream's latency, as a multiple of what nginx adds."""
    scenario = Scenario(era, 1)
    direct = of(rows, "direct", scenario)
    ours, theirs = (added(of(rows, name, scenario), direct, "p50_us") for name in (QUIET, "nginx"))
    # noise can make nginx faster than nothing
    return [ours[turn] / theirs[turn] for turn in ours if theirs.get(turn, 0) > 0]


def alone(name: str) -> Figure:
    """A figure that is not of calls, and of no era."""
    return lambda rows, era: [row[name] for row in rows if name in row]


GOALS = (
    Goal("CPU of a call, routing and conflict only", 2.2, "times nginx", against("gateway-min", "nginx")),
    Goal("CPU of a call, default plugins, no payload log", 3.0, "times nginx", against(QUIET, "nginx")),
    Goal("CPU of a call of agents as they are", 1.35, "times 100 B", against_itself(QUIET, "agents", what="agent")),
    Goal(
        "CPU of a call, 4 KB of JSON in a text",
        1.35,
        "times 4 KB of prose",
        against_itself(QUIET, "sizes", "4KB-prose", size="4KB-json"),
    ),
    Goal(
        "CPU of a call of 1 KB with two secrets, default plugins",
        8,
        "times nginx",
        against("gateway", "nginx", part="sizes", size="1KB"),
    ),
    Goal(
        "CPU of `tools/list`, 500 tools",
        2.5,
        "times nginx",
        against(QUIET, "nginx", part="lists", what="list", stage="500 tools"),
    ),
    Goal("CPU of a call, 100 upstreams", 1.1, "times one", against_itself(QUIET, "fleets", stage="100 upstreams")),
    Goal("CPU of a call, result of 10 KB", 1.2, "times 100 B", against_itself(QUIET, "sizes", size="10KB")),
    Goal("CPU of a call, result of 1 MB", 3, "times nginx", against(QUIET, "nginx", part="sizes", size="1MB")),
    Goal("p99 of small calls beside 16 results of 1 MB", 2, "times alone", alone("bystander_p99")),
    Goal("added p50, 1 connection", 2.5, "times nginx", added_p50),
    Goal("p99, 256 connections", 4, "times nginx", against(QUIET, "nginx", 256, "p99_us")),
    Goal("memory of an idle agent with an open SSE stream", 15, "KB", alone("stream_kb")),
    Goal("memory of an idle legacy session", 4, "KB", alone("session_kb")),
    Goal("`rad mcp proxy status`", 150, "ms", alone("status_ms")),
    Goal("start to the first `tools/list`, beyond the slower server's own", 100, "ms", alone("start_added_ms")),
)
"""Where nothing else is said: 16 connections, 100 B."""

PEER_GOALS = (
    Goal("CPU of a call of fastmcp's proxy", 300, "times ours", against("fastmcp", QUIET), at_least=True),
    Goal("CPU of a call of ContextForge", 300, "times ours", against("contextforge", QUIET), at_least=True),
    Goal("CPU of a call of mcp-proxy (Node)", 8, "times ours", against("mcp-proxy-node", QUIET), at_least=True),
)
"""Ours is the gateway with default plugins, no payload log."""


def table(rows: Sequence[Row], goals: Sequence[Goal] = GOALS) -> list[str]:
    """The goals that something was measured for; empty without any."""
    lines = []
    for goal in goals:
        measured = goal.measured(rows)
        if measured:
            lines.append(f"| {goal.what} | {goal.wanted()} | {measured[0]} | {'yes' if measured[1] else '**no**'} |")
    return ["| goal | wanted | measured | reached |", "|---|---|---:|---|", *lines] if lines else []
