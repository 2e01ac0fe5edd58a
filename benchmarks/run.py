"""Measures the gateway beside plain reverse proxies, in interleaved rounds, on loopback; `--help` has the options.

A run starts every target once, then measures them one after the other in each round, so that all of them meet the
same noise. One JSON line per measurement goes to benchmarks/out/, the table to docs/performance.md when all went well.
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

import processes
import report
import targets
from load import SIZES, Scenario, measure

ERAS = ("legacy", "modern")


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a short look (under 40 s); only prints")
    parser.add_argument("--targets", default=",".join(targets.NAMES), help="default: %(default)s")
    parser.add_argument("--eras", default=",".join(ERAS), help="of the agents; default: %(default)s")
    parser.add_argument("--connections", help="default: 1,16,256; quick: 1,16")
    parser.add_argument("--size", choices=SIZES, default="100B", help="text of a result; default: %(default)s")
    parser.add_argument("--rounds", type=int, help="default: 5; quick: 2")
    parser.add_argument("--seconds", type=float, help="of each measurement; default: 0.7; quick: 0.3")
    parser.add_argument(
        "--limit", type=float, help="seconds after which no measurement begins; default: 420; quick: 34"
    )
    parser.add_argument("--upstream", choices=("both", *ERAS), default="both", help="eras that the upstream speaks")
    parser.add_argument("--upstream-sse", action="store_true", help="the upstream answers as SSE, not as JSON")
    parser.add_argument(
        "--page", type=Path, default=report.PAGE, help="where the table goes; default: docs/performance.md"
    )
    parser.add_argument("--raw", type=Path, default=processes.OUT, help="folder of the raw figures; default: out/")
    parser.add_argument("--print", action="store_true", help="only print the table")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing; make the table from this .jsonl")
    chosen = parser.parse_args(argv)
    chosen.print |= chosen.quick
    chosen.connections = [int(n) for n in (chosen.connections or ("1,16" if chosen.quick else "1,16,256")).split(",")]
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (0.3 if chosen.quick else 0.7)
    chosen.limit = chosen.limit or (34.0 if chosen.quick else 420.0)
    chosen.targets, chosen.eras = chosen.targets.split(","), chosen.eras.split(",")
    unknown = (set(chosen.targets) - set(targets.NAMES)) | (set(chosen.eras) - set(ERAS))
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return chosen


def environment(chosen: argparse.Namespace) -> dict[str, str]:
    """What a reader needs to judge the figures; the load average tells how quiet the machine was."""
    found = {"date": time.strftime("%Y-%m-%d"), "machine": f"{_processor()} with {os.cpu_count()} processors"}
    found["Linux"] = platform.release().partition("-")[0]
    found["Python"] = platform.python_version()
    for name in ("gateway-core", "aiohttp", "uvloop"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    found["result"] = chosen.size
    found["upstream eras"] = chosen.upstream + (" (SSE)" if chosen.upstream_sse else "")
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
    chosen: argparse.Namespace, scratch: Path
) -> Iterator[tuple[targets.Running, list[targets.Running], dict[str, str]]]:
    """The upstream, the targets that run, and why the others do not; all are stopped in the end."""
    with contextlib.ExitStack() as stack:
        upstream = targets.upstream(processes.OUT, scratch, chosen.upstream, chosen.upstream_sse)
        stack.callback(upstream.process.stop)
        running, missing = [], {}
        for name in chosen.targets:
            if name == "direct":
                running.append(upstream)
                continue
            try:
                target = targets.LAUNCHERS[name](upstream.port, scratch)
            except (targets.Unavailable, RuntimeError) as error:
                missing[name] = str(error)
                continue
            stack.callback(target.process.stop)
            running.append(target)
        yield upstream, running, missing


def run(chosen: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """All measurements, a failed one with `failed`; and complaints, each a reason to exit with 1."""
    rows: list[dict[str, Any]] = []
    out = chosen.raw / time.strftime("%Y%m%d-%H%M%S.jsonl")
    scenarios = [Scenario(era, count, chosen.size) for count in chosen.connections for era in chosen.eras]
    warm = min(0.25, chosen.seconds / 2)
    deadline = time.monotonic() + chosen.limit
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        started(chosen, Path(scratch)) as (upstream, running, missing),
        out.open("w", encoding="utf-8") as lines,
    ):
        lines.write(json.dumps({"environment": environment(chosen)}) + "\n")
        rows += [{"target": name, "failed": why} for name, why in missing.items()]
        lines.writelines(json.dumps(row) + "\n" for row in rows)
        complaints = [f"{name}: {why}" for name, why in missing.items() if name.startswith("gateway")]
        expected = chosen.rounds * len(scenarios) * len(running) * (warm + chosen.seconds + 0.15)
        print(f"{len(running)} targets, about {expected:.0f} s; raw figures: {out.name}", file=sys.stderr)
        for turn in range(chosen.rounds):
            for scenario in scenarios:
                for target in running:
                    if time.monotonic() > deadline:
                        return rows, [*complaints, f"stopped after {chosen.limit:.0f} s; the table is not complete"]
                    row = {"round": turn, **_one(target, upstream, scenario, warm, chosen.seconds)}
                    rows.append(row)
                    lines.write(json.dumps(row) + "\n")
                    wrong = row.get("failed") or (row["errors"] and row["first_error"])
                    if wrong:
                        complaints.append(f"{target.name}, {scenario.era}, {scenario.connections} connections: {wrong}")
            print(f"round {turn + 1} done", file=sys.stderr)
    return rows, complaints


def _one(
    target: targets.Running, upstream: targets.Running, scenario: Scenario, warm: float, seconds: float
) -> dict[str, Any]:
    row = {"target": target.name, "era": scenario.era, "connections": scenario.connections}
    where = {"port": target.port, "pid": target.process.pid, "upstream_port": upstream.port}
    try:
        return row | measure(scenario, **where, tools=processes.OUT, warm=warm, seconds=seconds)
    except RuntimeError as error:
        return row | {"failed": str(error)}


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
        rows, complaints = run(chosen)
    text = report.render(about, rows)
    if chosen.print or complaints:
        # an incomplete or wrong run must not replace good figures
        print(text)
    else:
        report.publish(chosen.page, "benchmark", text)
        print(f"table written to {chosen.page}", file=sys.stderr)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
