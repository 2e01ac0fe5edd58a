"""Where the gateway's time goes under load: samples of py-spy, by package and by function.

    python hotpath.py [--modern] [--seconds 8] [--target gateway]

Needs `py-spy` on PATH and the right to trace one's own child processes. A sample's owner is the innermost frame that
is not the standard library's, so that `asyncio` and `json` count for those who called them.
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
from collections import Counter
from pathlib import Path
from typing import Any

import processes
import report
import targets
from load import Scenario, measure

_FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::\d+)?\)$")
_STANDARD = sysconfig.get_path("stdlib")
_ROOT = f"{processes.HERE.parent}/"
_LOOP = "event loop"


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
        owned[next(outer, _LOOP)] += int(count)
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
        upstream = targets.upstream(processes.OUT, scratch, "both", False)
        stack.callback(upstream.process.stop)
        target = targets.LAUNCHERS[name](upstream.port, scratch)
        stack.callback(target.process.stop)
        where = {"port": target.port, "pid": target.process.pid, "upstream_port": upstream.port}
        figures: dict[str, Any] = {}

        def load() -> None:
            figures.update(measure(scenario, **where, tools=processes.OUT, warm=2.0, seconds=seconds))

        loading = threading.Thread(target=load)
        loading.start()
        stack.callback(loading.join)
        raw = scratch / "raw"
        argv = [spy, "record", "--pid", str(target.process.pid), "--rate", "200", "--duration", f"{seconds:.0f}"]
        argv += ["--full-filenames", "--format", "raw", "--output", str(raw)]
        with processes.pinned(processes.cpus()[1]):
            subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=seconds + 30)
        loading.join()
        return raw.read_text(encoding="utf-8"), figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--modern", action="store_true", help="agents of the modern era")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--target", choices=[name for name in targets.LAUNCHERS if name != "nginx"], default="gateway")
    chosen = parser.parse_args()
    processes.build()
    scenario = Scenario("modern" if chosen.modern else "legacy", chosen.connections, "100B")
    raw, figures = sample(chosen.target, scenario, min(chosen.seconds, 60))
    owned, within = owners(raw)
    total = sum(owned.values())
    print(
        f"{report.TITLES[chosen.target]}, {scenario.era}, {scenario.connections} connections: {total} samples, ", end=""
    )
    print(f"{figures.get('cpu_us', 0)} µs/call, {figures.get('errors', '?')} wrong answers\n")
    print("| package | share |\n|---|---:|")
    for name, count in owned.most_common(15):
        print(f"| `{name}` | {count / total:.0%} |")
    print("\n| function, with all that it calls | share |\n|---|---:|")
    for name, count in within.most_common(30):
        print(f"| `{name}` | {count / total:.0%} |")


if __name__ == "__main__":
    main()
