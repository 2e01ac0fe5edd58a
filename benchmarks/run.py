"""Measures the gateway beside plain reverse proxies, in interleaved rounds, on loopback; `--help` has the options.

A run starts every target once, then measures them one after the other in each round, so that all of them meet the
same noise. What is not a call (start, memory, hooks) is measured after that. One JSON line per measurement goes to
benchmarks/out/, tables and charts to docs/ when all went well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bystanders
import charts
import goals
import hooks
import matrix
import memory
import peers
import processes
import report
import startup
import targets
from load import measure
from matrix import ERAS, PARTS, SIZES, STAGES, Scenario

ALONE = {
    "bystanders": bystanders.measure,
    "startup": startup.measure,
    "memory": memory.measure,
    "hooks": hooks.measure,
}
"""Parts that no other target takes part in: each gives its own rows."""
QUICK = ("calls", "sizes", "sse", "lists", "fleets")


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short look (under 60 s); only prints")
    parser.add_argument("--peers", action="store_true", help="the calls alone, beside gateways by others")
    parser.add_argument("--parts", help=f"default: {','.join((*PARTS, *ALONE))}; quick: without the last four")
    parser.add_argument("--targets", help=f"default: {','.join(targets.NAMES)}; peers: {','.join(peers.NAMES)}")
    parser.add_argument("--eras", help="of the agents; default: legacy,modern; peers: legacy")
    parser.add_argument("--connections", help="default: 1,16,64,256; quick and peers: 1,16")
    parser.add_argument("--sizes", help=f"texts of results; default: {','.join(SIZES)}; quick: 100B,10KB")
    parser.add_argument("--rounds", type=int, help="default: 3; quick: 1")
    parser.add_argument("--seconds", type=float, help="of each measurement; default: 0.9; quick: 0.25; peers: 3")
    parser.add_argument(
        "--limit", type=float, help="seconds after which no measurement begins; default: 780; quick: 55"
    )
    parser.add_argument("--upstream", choices=("both", *ERAS), default="both", help="eras that the upstreams speak")
    parser.add_argument("--page", type=Path, default=report.PAGE, help="where the tables go; default: %(default)s")
    parser.add_argument("--raw", type=Path, default=processes.OUT, help="folder of the raw figures; default: out/")
    parser.add_argument("--print", action="store_true", help="only print the tables")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing; make the tables from this .jsonl")
    chosen = parser.parse_args(argv)
    quick, beside = chosen.quick, chosen.peers
    chosen.print |= quick
    names = peers.NAMES if beside else targets.NAMES
    defaults = {
        "parts": ("calls",) if beside else QUICK if quick else (*PARTS, *ALONE),
        "targets": names,
        "eras": ("legacy",) if beside else ERAS,
        "sizes": ("100B", "10KB") if quick else tuple(SIZES),
    }
    known = {"parts": {*PARTS, *ALONE}, "targets": {*targets.NAMES, *peers.NAMES}, "eras": {*ERAS}, "sizes": {*SIZES}}
    for option, default in defaults.items():
        given = getattr(chosen, option)
        setattr(chosen, option, given.split(",") if given else list(default))
        if unknown := set(getattr(chosen, option)) - known[option]:
            parser.error(f"unknown {option}: {', '.join(sorted(unknown))}")
    connections = chosen.connections or ("1,16" if quick or beside else "1,16,64,256")
    chosen.connections = [int(number) for number in connections.split(",")]
    chosen.rounds = chosen.rounds or (1 if quick else 3)
    chosen.seconds = chosen.seconds or (0.25 if quick else 3.0 if beside else 0.9)
    chosen.limit = chosen.limit or (55.0 if quick else 780.0)
    return chosen


def environment(chosen: argparse.Namespace) -> dict[str, str]:
    """What a reader needs to judge the figures; the load average tells how quiet the machine was."""
    found = {"date": time.strftime("%Y-%m-%d"), "machine": f"{_processor()} with {os.cpu_count()} processors"}
    found["Linux"] = platform.release().partition("-")[0]
    found["Python"] = platform.python_version()
    for name in ("gateway-core", "aiohttp", "uvloop"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    if nginx := targets.nginx_version():
        found["nginx"] = nginx
    if chosen.peers:
        found |= peers.versions(chosen.targets)
    found["upstream eras"] = chosen.upstream
    found["rounds"] = f"{chosen.rounds} of {chosen.seconds:g} s"
    found["load average before"] = f"{os.getloadavg()[0]:.1f}"
    if len(set(processes.cpus())) == 1:
        found["processors used"] = "one for everything"
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@contextlib.contextmanager
def started(
    chosen: argparse.Namespace, work: Sequence[tuple[str, Scenario, list[str]]]
) -> Iterator[tuple[dict[tuple[str, str], targets.Running], dict[str, str]]]:
    """(stage, target) -> what runs, always with each stage's `direct`; and why targets do not run."""
    launchers = targets.LAUNCHERS | peers.LAUNCHERS
    running: dict[tuple[str, str], targets.Running] = {}
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for stage in dict.fromkeys(scenario.stage for _, scenario, _ in work):
            folder = Path(scratch) / stage.replace(" ", "-")
            folder.mkdir()
            upstream, ports = targets.upstreams(processes.OUT, folder, STAGES[stage], chosen.upstream)
            stack.callback(upstream.process.stop)
            running[stage, "direct"] = upstream
            names = dict.fromkeys(name for _, scenario, who in work for name in who if scenario.stage == stage)
            for name in names:
                if name == "direct" or name in missing:
                    continue
                try:
                    target = launchers[name](ports, folder)
                except (targets.Unavailable, RuntimeError) as error:
                    missing[name] = str(error)
                    continue
                stack.callback(target.process.stop)
                running[stage, name] = target
        yield running, missing


def run(chosen: argparse.Namespace, about: dict[str, str], raw: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All measurements, a failed one with `failed`; and complaints, each a reason to exit with 1."""
    rows: list[dict[str, Any]] = []
    complaints: list[str] = []
    with raw.open("w", encoding="utf-8") as lines:

        def keep(row: dict[str, Any]) -> None:
            rows.append(row)
            lines.write(json.dumps(row) + "\n")
            lines.flush()

        lines.write(json.dumps({"environment": about}) + "\n")
        work = [
            (part, scenario, matrix.targets_of(part, chosen.targets))
            for part in chosen.parts
            if part in PARTS
            for scenario in matrix.plan(part, chosen.connections, chosen.eras, chosen.sizes)
        ]
        if work:
            with started(chosen, work) as (running, missing):
                for name, why in missing.items():
                    keep({"target": name, "failed": why})
                complaints += [f"{name}: {why}" for name, why in missing.items() if name not in peers.LAUNCHERS]
                complaints += _rounds(chosen, work, running, keep)
        for part in chosen.parts:
            if part in ALONE:
                print(part, file=sys.stderr)
                for row in ALONE[part]():
                    keep({"part": part, **row})
    return rows, complaints


def _rounds(
    chosen: argparse.Namespace,
    work: Sequence[tuple[str, Scenario, list[str]]],
    running: dict[tuple[str, str], targets.Running],
    keep: Any,
) -> list[str]:
    """Measures everything `rounds` times over; returns the complaints."""
    complaints: list[str] = []
    # a slow gateway needs a second for the first answer to each connection
    warm = 1.0 if chosen.peers else min(0.25, chosen.seconds / 2)
    deadline = time.monotonic() + chosen.limit
    single = sum((scenario.stage, name) in running for _, scenario, who in work for name in who)
    expected = chosen.rounds * single * (warm + chosen.seconds + 0.15)
    print(f"{single} measurements a round, about {expected:.0f} s", file=sys.stderr)
    for turn in range(chosen.rounds):
        for part, scenario, who in work:
            upstream_port = running[scenario.stage, "direct"].port
            for name in who:
                target = running.get((scenario.stage, name))
                if target is None or scenario.era not in target.eras:
                    continue
                if time.monotonic() > deadline:
                    return [*complaints, f"stopped after {chosen.limit:.0f} s; the tables are not complete"]
                row = {"part": part, "round": turn, "target": name, **report.key(scenario)}
                try:
                    timing = {"warm": warm, "seconds": chosen.seconds}
                    row |= measure(scenario, target, upstream_port=upstream_port, tools=processes.OUT, **timing)
                except RuntimeError as error:
                    row["failed"] = str(error)
                keep(row)
                wrong = row.get("failed") or (row["errors"] and row["first_error"])
                if wrong and name not in peers.LAUNCHERS:
                    complaints.append(f"{name}, {scenario.label}, {scenario.connections} connections: {wrong}")
        print(f"round {turn + 1} done", file=sys.stderr)
    return complaints


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options(argv)
    complaints: list[str] = []
    if chosen.render:
        first, *rest = chosen.render.read_text(encoding="utf-8").splitlines()
        about, rows = json.loads(first)["environment"], [json.loads(line) for line in rest]
    else:
        if not Path("/proc/self/schedstat").exists():
            raise SystemExit("the benchmark reads CPU time from /proc/PID/schedstat: it needs Linux")
        processes.build()
        # a terminated run still ends the processes that it started
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        about = environment(chosen)
        raw = chosen.raw / time.strftime("%Y%m%d-%H%M%S.jsonl")
        rows, complaints = run(chosen, about, raw)
        print(f"raw figures: {raw}", file=sys.stderr)
    section = "peers" if chosen.peers else "benchmark"
    text = report.render(about, rows, goals.table(rows, goals.PEER_GOALS if chosen.peers else goals.GOALS))
    print(text)
    if not (chosen.print or complaints):
        # an incomplete or wrong run must not replace good figures
        pictures = charts.publish(chosen.page, section, rows)
        report.publish(chosen.page, section, "\n\n".join(filter(None, [pictures, text])))
        print(f"written to {chosen.page}", file=sys.stderr)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
