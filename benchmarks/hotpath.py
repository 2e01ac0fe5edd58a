"""Where the gateway's time goes under load: samples of py-spy, by package and by function.

    python hotpath.py [--modern] [--seconds 8] [--targets gateway-min,gateway] [--publish]

Needs `py-spy` on PATH and the right to trace one's own child processes. A sample's owner is the innermost frame that
is not the standard library's, so that `asyncio` and `json` count for those who called them. Only threads that hold the
interpreter's lock are sampled: waiting ones would count as busy.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import flame
import processes
import report
import targets
from load import measure
from matrix import SIZES, STAGES, Scenario

_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_STANDARD = sysconfig.get_path("stdlib")
_ROOT = f"{processes.HERE.parent}/"
_LOOP = "event loop"
PARTS = {
    "HTTP to upstreams, with the kernel's share": ("gateway_core.http1.client",),
    "HTTP from agents, with the kernel's share": ("gateway_core.http1",),
    "downstream side of the core": ("gateway_core.downstream",),
    "upstream side of the core": ("gateway_core.upstream",),
    "reading and writing JSON-RPC envelopes": ("gateway_core.mcp",),
    "log": ("gateway_core.log", "loguru"),
    "redactor": ("security_redact", "re2"),
    "pipeline, router, catalog, plugin chain": ("gateway_core",),
    _LOOP: (_LOOP,),
}
"""Rows of the published table, and how the packages begin that count for them; the first that fits counts."""


def package(file: str) -> str:
    """The package that a source file belongs to; our own files with their module, `stdlib` for the standard library."""
    name = file.removeprefix(_ROOT)
    _, installed, inside = name.rpartition("site-packages/")
    if not installed and (name.startswith((_STANDARD, "<")) or "/lib/python3" in name):
        return "stdlib"
    if name.startswith("gateway_core/"):
        return name.removesuffix(".py").replace("/", ".")
    if name.startswith("plugins/"):
        return name.split("/")[1]
    return inside.split("/")[0].removesuffix(".py")


def owners(raw: str) -> tuple[Counter[str], Counter[str]]:
    """(samples by owning package, samples by function with all that it calls) of py-spy's `raw` output."""
    owned: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        matches = [match for part in stack.split(";") if (match := _FRAME.match(part))]
        frames = [(match["function"], package(match["file"])) for match in matches]
        if not frames:
            continue
        outer = (where for _, where in reversed(frames) if where != "stdlib")
        owner = next(outer, _LOOP)
        # uvloop has no frames of its own: its work shows as that of whoever started the loop
        owned[_LOOP if owner == "uvloop" or owner.startswith("gateway_core.cli") else owner] += int(count)
        for function in {f"{where}: {function}" for function, where in frames if where != "stdlib"}:
            within[function] += int(count)
    return owned, within


def sample(name: str, scenario: Scenario, seconds: float) -> tuple[str, dict[str, Any]]:
    """Loads a target and samples it meanwhile; returns py-spy's `raw` output and the load's figures."""
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        raise SystemExit("the profile needs py-spy (pip install py-spy)")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream, ports = targets.upstreams(processes.OUT, scratch, STAGES[scenario.stage])
        stack.callback(upstream.process.stop)
        target = targets.LAUNCHERS[name](ports, scratch)
        stack.callback(target.process.stop)
        timing = {"warm": 2.0, "seconds": seconds}
        figures: dict[str, Any] = {}

        def load() -> None:
            figures.update(measure(scenario, target, upstream_port=upstream.port, tools=processes.OUT, **timing))

        loading = threading.Thread(target=load)
        loading.start()
        stack.callback(loading.join)
        # the sessions have been opened by then, and the first calls are over
        time.sleep(1.5)
        raw = scratch / "raw"
        argv = [
            spy,
            "record",
            "--pid",
            str(target.process.pid),
            "--gil",
            "--rate",
            "200",
            "--duration",
            f"{seconds:.0f}",
        ]
        argv += ["--full-filenames", "--format", "raw", "--output", str(raw)]
        with processes.pinned(processes.cpus()[1]):
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=seconds + 30)
        loading.join()
        return raw.read_text(encoding="utf-8"), figures


def stacks(raw: str) -> list[tuple[flame.Stack, int]]:
    """py-spy's `raw` output for a flame graph: `module: function` each, without the standard library's frames."""
    found = []
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        matches = [match for one in stack.split(";") if (match := _FRAME.match(one))]
        frames = [(package(match["file"]), match["function"]) for match in matches]
        names = tuple(f"{where}: {function}" for where, function in frames if where not in {"stdlib", "uvloop"})
        if names and not names[-1].startswith("gateway_core.cli"):
            found.append((names, int(count)))
    return found


def part(owner: str) -> str:
    """The row of the published table that a package counts for."""
    return next((title for title, prefixes in PARTS.items() if owner.startswith(prefixes)), "the rest")


def published(found: dict[str, Counter[str]]) -> str:
    """The table of shares by part; a column for each target."""
    shares: dict[str, Counter[str]] = {name: Counter() for name in found}
    for name, owned in found.items():
        for owner, count in owned.items():
            shares[name][part(owner)] += count
    lines = [f"| part | {' | '.join(report.TITLES[name] for name in found)} |", f"|---|{'---:|' * len(found)}"]
    for title in (*PARTS, "the rest"):
        cells = [f"{counts[title] / max(1, counts.total()):.0%}" for counts in shares.values()]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def details(owned: Counter[str], within: Counter[str]) -> str:
    total = owned.total()
    lines = ["| package | share |", "|---|---:|"]
    lines += [f"| `{name}` | {count / total:.0%} |" for name, count in owned.most_common(15)]
    lines += ["", "| function, with all that it calls | share |", "|---|---:|"]
    # what is on every stack is only how the process was started
    telling = [(name, count) for name, count in within.most_common() if count < 0.95 * total]
    return "\n".join([*lines, *(f"| `{name}` | {count / total:.0%} |" for name, count in telling[:40])])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--modern", action="store_true", help="agents of the modern era")
    parser.add_argument("--seconds", type=float, default=8, help="at most 60; default: %(default)s")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--size", choices=SIZES, default="100B")
    parser.add_argument("--what", choices=("call", "agent", "list"), default="call")
    parser.add_argument("--stage", choices=STAGES, default="one", help="what stands behind the target")
    parser.add_argument("--targets", default="gateway-min,gateway-quiet,gateway", help="default: %(default)s")
    parser.add_argument(
        "--publish", action="store_true", help="write the shares by part, and a flame graph, to docs/performance.md"
    )
    chosen = parser.parse_args()
    processes.build()
    era = "modern" if chosen.modern else "legacy"
    scenario = Scenario(era, chosen.connections, chosen.size, chosen.what, chosen.stage)
    found: dict[str, Counter[str]] = {}
    graph = ""
    for name in chosen.targets.split(","):
        raw, figures = sample(name, scenario, min(chosen.seconds, 60))
        found[name], within = owners(raw)
        print(f"{report.TITLES[name]}, {scenario.label}, {scenario.connections} connections: ", end="")
        print(f"{found[name].total()} samples, {figures['cpu_us']} µs/call, {figures['errors']} wrong answers\n")
        print(details(found[name], within), end="\n\n")
        if chosen.publish and not graph:
            title = f"Where a call spends its time: {report.TITLES[name]}"
            file = report.PAGE.parent / "img" / "flame.svg"
            file.write_text(flame.draw(title, stacks(raw), part, (*PARTS, "the rest")), encoding="utf-8")
            graph = f"![{title}](img/{file.name})"
    print(published(found))
    if chosen.publish:
        report.publish(report.PAGE, "profile", f"{published(found)}\n\n{graph}")


if __name__ == "__main__":
    main()
