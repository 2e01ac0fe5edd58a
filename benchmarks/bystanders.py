"""What agents with small calls notice of others that fetch large results at the same time.

    python bystanders.py

16 connections ask for results of 100 B, alone and while 16 others ask for 1 MB, again and again. All share one
processor in the target, and another one in the upstream and the load: so the upstream alone is measured too, and nginx.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path

import load
import processes
from matrix import Scenario, Stage
from report import TITLES, Row, number, spread
from targets import LAUNCHERS, Running, Unavailable, upstreams

ROUNDS = 9
WARM, SECONDS = 0.25, 1.0
_OPENING = 2.0
"""Seconds in which the sessions of the small calls are opened, beside the large ones already."""
OTHERS = ("nginx", "gateway-quiet")
"""Beside the upstream alone; what counts is the last one."""
_SMALL = Scenario("legacy", 16)
_LARGE = Scenario("legacy", 16, "1MB")


def measure() -> list[Row]:
    """One row; `bystander_p99`: how many times longer the slowest hundredth takes in the gateway beside large calls."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        upstream, ports = upstreams(processes.OUT, Path(scratch), Stage())
        stack.callback(upstream.process.stop)
        running = [upstream]
        for name in OTHERS:
            with contextlib.suppress(Unavailable):
                target = LAUNCHERS[name](ports, Path(scratch))
                stack.callback(target.process.stop)
                running.append(target)
        rounds = [[_figures(target, upstream.port) for target in running] for _ in range(ROUNDS)]
    lines = ["| target | p50 alone, ms | p50 beside them | p99 alone | p99 beside them | p99, times alone | RSS MB |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    times: list[float] = []
    for target, figures in zip(running, zip(*rounds, strict=True), strict=True):
        times = [both["p99_us"] / alone["p99_us"] for alone, both in figures]
        cells = [
            spread([one[which][name] / 1000 for one in figures]) for name in ("p50_us", "p99_us") for which in (0, 1)
        ]
        memory = statistics.median(both["rss_mb"] for _, both in figures)
        lines.append(f"| {TITLES[target.name]} | {' | '.join(cells)} | {spread(times)} | {number(memory)} |")
    title = "Small calls beside large ones, 16 connections of 100 B beside 16 of 1 MB"
    return [{"title": title, "table": lines, "bystander_p99": round(statistics.median(times), 2)}]


def _figures(target: Running, upstream_port: int) -> tuple[Row, Row]:
    """(the small calls alone, the same beside the large ones)"""
    timing = {"warm": WARM, "seconds": SECONDS}
    alone = load.measure(_SMALL, target, upstream_port=upstream_port, tools=processes.OUT, **timing)
    with load.beside(_LARGE, target, tools=processes.OUT, seconds=_OPENING + WARM + SECONDS):
        both = load.measure(_SMALL, target, upstream_port=upstream_port, tools=processes.OUT, **timing)
    return alone, both


if __name__ == "__main__":
    processes.build()
    for row in measure():
        print("\n".join(row["table"]))
