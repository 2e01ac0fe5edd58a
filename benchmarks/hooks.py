"""What a plugin costs that does nothing: with an empty `before_call`, an empty `after_call`, or both.

    python hooks.py

Measured twice: ns of the plugin chain alone, by itself in a loop, and CPU per call of a whole gateway under load. Both
beside the same without the plugin, in interleaved rounds of which the best counts: a microsecond is less than what
another process takes from a processor's caches. The second figure shows no more than that there is no hidden cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

import processes
import targets
from load import measure as load
from matrix import Scenario, Stage
from report import Row, number

from gateway_core import Call, CallResult, hookimpl
from gateway_core.hooks import Chain, ChainProgress
from gateway_core.testing import configured, make_call, make_result

LOOPS, REPEATS = 5_000, 15
ROUNDS, SECONDS = 9, 0.4


class Before:
    """An empty `before_call`."""

    @hookimpl
    def before_call(self, call: Call) -> None:
        pass


class After:
    """An empty `after_call`."""

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> None:
        pass


class Both(Before, After):
    """Both of them."""


PLUGINS = {"before_call": Before, "after_call": After, "both": Both}


def measure() -> list[Row]:
    """`before_call_ns`, `after_call_ns` and `both_ns`, and the same of the whole gateway in µs."""
    alone = asyncio.run(_chain())
    whole = _gateway()
    lines = ["| an empty | ns in the chain | CPU µs of a call through the gateway |", "|---|---:|---:|"]
    figures: Row = {}
    for name in PLUGINS:
        lines.append(f"| {f'`{name}`' if name != 'both' else name} | {alone[name]:.0f} | {number(whole[name])} |")
        figures[f"{name}_ns"] = round(alone[name])
        figures[f"{name}_us"] = round(whole[name] - whole["none"], 2)
    lines.append(f"| without the plugin | | {number(whole['none'])} |")
    return [{"title": "Cost of a plugin", "table": lines, **figures}]


async def _chain() -> dict[str, float]:
    """ns that each plugin adds to a chain without any, the best of some repeats."""
    chains = {"none": Chain([])} | {name: Chain([configured(plugin)]) for name, plugin in PLUGINS.items()}
    call, result = make_call(), make_result()
    best = dict.fromkeys(chains, float("inf"))
    for _ in range(REPEATS):
        for name, chain in chains.items():
            begun = time.perf_counter_ns()
            for _ in range(LOOPS):
                passed = ChainProgress()
                await chain.run_before(call, lambda found: found, passed)
                await chain.run_after(passed, result)
            best[name] = min(best[name], (time.perf_counter_ns() - begun) / LOOPS)
    return {name: best[name] - best["none"] for name in PLUGINS}


def _gateway() -> dict[str, float]:
    """µs of CPU of a call with each plugin, the best round; `none` is the call without."""
    scenario = Scenario("legacy", 16)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        env = _distribution(scratch)
        upstream, ports = targets.upstreams(processes.OUT, scratch, Stage())
        stack.callback(upstream.process.stop)
        running = {}
        for name in ("none", *PLUGINS):
            plugin = "" if name == "none" else f'\n[[mcp.proxy.plugins]]\nname = "bench_{name}"\n'
            tables = targets.MINIMAL + plugin
            running[name] = targets.gateway(f"hooks-{name}", tables, ports, scratch, level="WARNING", env=env)
            stack.callback(running[name].process.stop)
        best = dict.fromkeys(running, float("inf"))
        for _ in range(ROUNDS):
            timing = {"warm": 0.2, "seconds": SECONDS}
            for name, target in running.items():
                figures = load(scenario, target, upstream_port=upstream.port, tools=processes.OUT, **timing)
                best[name] = min(best[name], figures["cpu_us"])
        return best


def _distribution(folder: Path) -> dict[str, str]:
    """Makes this module's plugins a distribution that Python finds; returns the environment that it takes."""
    about = folder / "bench_hooks-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-hooks\nVersion: 1\n")
    entries = (f"bench_{name} = hooks:{plugin.__name__}\n" for name, plugin in PLUGINS.items())
    (about / "entry_points.txt").write_text("[gateway_core]\n" + "".join(entries))
    return {"PYTHONPATH": f"{folder}:{processes.HERE}"}


if __name__ == "__main__":
    processes.build()
    for row in measure():
        print("\n".join(row["table"]))
