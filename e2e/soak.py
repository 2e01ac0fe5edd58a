"""A long load that looks for slopes: agents of both eras, servers of every transport, kills, churn and noise.

    python soak.py                # ten minutes
    python soak.py --time 8h --seed 3

Agents call, cancel and leave; legacy clients open sessions and never end them; servers are killed; one server floods
its output with lines that are no messages, another changes its list all the time. The configuration is reloaded with an
upstream that comes and goes, plugins in another order and other limits; dashboards listen, and leave; figures are
scraped, and each call is audited. Meanwhile one honest agent calls at a steady pace. Every few seconds the script
samples the gateway: memory, descriptors, threads, child processes, sessions, calls in flight, and the latency of the
honest agent.

At the end it prints the samples as a table and the growth between the third and the last quarter of the time. It fails
if a figure grew, if a call ran twice or got a wrong answer, if a reload failed, if the audit log lacks a call or its
chain is broken, or if anything is left in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import random
import re
import statistics
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w
from conftest import Gateway, Launcher, Processes
from mcp import Client
from test_storm import MORTAL, OVER_HTTP, Storm, in_flight, kill_now_and_then, start

AGENTS: Final = 12
SAMPLE: Final = 5.0
"""Seconds between two samples."""
PACE: Final = 0.2
"""Seconds between two calls of the honest agent."""
CHURN: Final = 0.2
"""Seconds between two sessions that are opened and left."""
RELOAD: Final = 3.0
"""Seconds between two reloads."""
DASHBOARDS: Final = 3
VISIT: Final = 15.0
"""Seconds for which a dashboard listens before it leaves and comes back."""
SESSION_IDLE: Final = 20.0
"""Seconds until the gateway ends a session that was left: fewer than by default, so that their number settles."""
PLUGINS: Final = (
    *("routing_priority", "conflict_autoprefix", "security_ratelimit", "security_redact"),
    *("audit_log", "observe_metrics"),
)
NOISY: Final = Path(__file__).parent / "servers" / "noisy.py"
GROWTH: Final = {
    "memory MB": (1.05, 8.0),
    "descriptors": (1.1, 16.0),
    "threads": (1.0, 2.0),
    "children": (1.0, 1.0),
    "sessions": (1.1, 10.0),
    "latency ms": (2.0, 20.0),
}
"""Figure -> (factor, amount): it has grown if it is larger by more than both."""
UNITS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass
class Soak(Storm):
    """A storm that lasts for a time."""

    until: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """Milliseconds of the honest agent's calls since the last sample."""
    samples: list[dict[str, float]] = field(default_factory=list)
    reloads: int = 0

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.until

    async def honest(self) -> None:
        """Call a server without faults at a steady pace."""
        count = 0
        while not self.over:
            async with Client(self.url, mode="2026-07-28", read_timeout_seconds=30) as client:
                while not self.over:
                    count += 1
                    arguments = {"call": f"honest.{count}", "seconds": 0.0, "steps": 0, "size": 100}
                    self.asked[f"honest.{count}"] = "json"
                    before = time.perf_counter()
                    await self.call(client, "json", arguments)
                    self.latencies.append(1000 * (time.perf_counter() - before))
                    await asyncio.sleep(PACE)

    async def churn(self) -> None:
        """Open legacy sessions and leave them open, as clients do that never send DELETE."""
        count = 0
        while not self.over:
            count += 1
            await asyncio.to_thread(open_session, self.url, f"passer-by {count % 7}")
            await asyncio.sleep(CHURN)

    async def reload(self, gateway: Gateway, port: int) -> None:
        """Reload the configuration, another one each time. The upstreams that the calls go to stay as they are."""
        first = tomllib.loads(gateway.config.read_text())
        while not self.over:
            self.reloads += 1
            gateway.config.write_text(tomli_w.dumps(varied(first, self.reloads, port)))
            done = await asyncio.to_thread(gateway.run, "reload", "--json")
            if done.returncode:
                self.wrong.append(f"reload {self.reloads} failed: {done.stdout}{done.stderr}")
            await asyncio.sleep(RELOAD)

    async def listen(self, gateway: Gateway) -> None:
        """Be a dashboard, and a scraper of figures, again and again."""
        while not self.over:
            await asyncio.to_thread(visit, gateway)

    async def watch(self, gateway: Gateway) -> None:
        """Sample the gateway until it is over."""
        while not self.over:
            await asyncio.sleep(min(SAMPLE, max(0.1, self.until - time.monotonic())))
            latencies, self.latencies = self.latencies, []
            if latencies:
                self.samples.append(await asyncio.to_thread(sample, gateway, latencies))


def open_session(url: str, name: str) -> None:
    """One `initialize` of a legacy agent."""
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": name, "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    with contextlib.suppress(OSError):  # the gateway may say that too many are open
        urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10).read()


def varied(settings: dict[str, Any], number: int, port: int) -> dict[str, Any]:
    """Variant `number` of a configuration. `port`: of an HTTP server that is an upstream of every other one."""
    proxy = settings["mcp"]["proxy"]
    upstreams = list(proxy["upstreams"])
    if number % 2:
        upstreams.append({"name": "passing", "transport": "http", "url": f"http://127.0.0.1:{port}/mcp"})
    plugins = proxy["plugins"][:: -1 if number % 3 == 0 else 1]
    limits = {**proxy["limits"], "in_flight": 1000 + number % 5}
    return {"mcp": {"proxy": {**proxy, "upstreams": upstreams, "plugins": plugins, "limits": limits}}}


def visit(gateway: Gateway) -> None:
    """Read the control plane's events for some seconds, then the figures."""
    base = gateway.rad("status")["control"]
    headers = {"Authorization": f"Bearer {gateway.run('token').stdout.strip()}"}
    end = time.monotonic() + VISIT
    with urllib.request.urlopen(urllib.request.Request(f"{base}/admin/events", headers=headers), timeout=60) as stream:
        while time.monotonic() < end and stream.readline():
            pass
    with urllib.request.urlopen(urllib.request.Request(f"{base}/metrics", headers=headers), timeout=60) as figures:
        figures.read()


def sample(gateway: Gateway, latencies: Sequence[float]) -> dict[str, float]:
    """The figures of the gateway now."""
    pid = gateway.process.pid
    status = gateway.rad("status")
    text = Path(f"/proc/{pid}/status").read_text()
    resident, threads = (int(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE)[1]) for key in ("VmRSS", "Threads"))  # type: ignore[index]
    return {
        "memory MB": resident / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": threads,
        "children": len(children_of(pid)),
        "sessions": status["sessions"],
        "in flight": in_flight(status),
        "latency ms": statistics.median(latencies),
    }


def children_of(pid: int) -> list[int]:
    """The child processes of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def grown(samples: Sequence[dict[str, float]]) -> dict[str, str]:
    """The figures that have grown between the third and the last quarter of the samples, and by how much."""
    quarter = max(1, len(samples) // 4)
    found = {}
    for figure, (factor, amount) in GROWTH.items():
        before, after = (
            statistics.median(it[figure] for it in part)
            for part in (samples[-2 * quarter : -quarter] or samples[:1], samples[-quarter:])
        )
        if after > before * factor and after > before + amount:
            found[figure] = f"{before:.1f} -> {after:.1f}"
    return found


def problems(soak: Soak, journals: dict[str, Path], gateway: Gateway, log: str) -> list[str]:
    """Everything that went wrong."""
    executed = Counter(line for journal in journals.values() for line in journal.read_text().split())
    found = [f"{call} ran {times} times" for call, times in executed.items() if times > 1]
    found += soak.wrong
    found += [f"{call} was answered and never ran" for call in soak.answered - executed.keys()]
    undisturbed = {call: why for call, why in soak.failed.items() if soak.asked[call] in OVER_HTTP}
    found += [f"{call} failed: {why}" for call, why in undisturbed.items()]
    found += [f"{figure} grew: {how}" for figure, how in grown(soak.samples).items()]
    verified = gateway.run("audit", "verify")
    if verified.returncode:
        found.append(f"the audit log: {verified.stdout}{verified.stderr}")
    entries = audited(gateway.config.parent)
    if entries < len(soak.answered):
        found.append(f"{len(soak.answered)} calls were answered, and {entries} are in the audit log")
    left = in_flight(gateway.rad("status"))
    if left:
        found.append(f"{left} calls are left in flight")
    found += [line for line in log.splitlines() if " ERROR " in line or "Traceback" in line][:20]
    return found


def audited(folder: Path) -> int:
    """How many calls of tools are in the audit log."""
    lines = (line for file in folder.glob("audit*.jsonl") for line in file.read_bytes().splitlines())
    return sum(b'"method":"tools/call"' in line for line in lines)


def table(samples: Sequence[dict[str, float]], rows: int = 20) -> str:
    """A selection of the samples as a Markdown table."""
    chosen = samples[:: max(1, len(samples) // rows)]
    lines = [" | ".join(["sample", *chosen[0]]), " | ".join(["---:"] * (len(chosen[0]) + 1))]
    for number, one in zip(range(0, len(samples), max(1, len(samples) // rows)), chosen, strict=False):
        lines.append(" | ".join([str(number), *(f"{value:.1f}" for value in one.values())]))
    return "\n".join(f"| {line} |" for line in lines)


async def run(seconds: float, seed: int, folder: Path) -> list[str]:
    """Soak for `seconds`; returns what went wrong."""
    launcher = Launcher(Processes(folder))
    try:
        journals = {name: folder / f"{name}.journal" for name in (*OVER_HTTP, *MORTAL)}
        noise = [
            {"name": kind, "transport": "stdio", "command": sys.executable, "args": [str(NOISY), kind]}
            for kind in ("lines", "lists")
        ]
        port = launcher.free_port()
        await asyncio.to_thread(launcher.http_server, "passing", port)
        limits = {"session_idle": SESSION_IDLE}
        plugins = [{"name": name} for name in PLUGINS]
        gateway = await asyncio.to_thread(start, launcher, journals, noise, limits=limits, plugins=plugins)
        soak = Soak(gateway.url, random.Random(seed), until=time.monotonic() + seconds)
        work: list[Coroutine[Any, Any, None]] = [soak.agent(number) for number in range(AGENTS)]
        work += [soak.honest(), soak.churn(), soak.watch(gateway), kill_now_and_then(journals, soak)]
        work += [soak.reload(gateway, port), *(soak.listen(gateway) for _ in range(DASHBOARDS))]
        await asyncio.gather(*work)
        await asyncio.sleep(5)  # the last cancellations may still be in transit
        print(table(soak.samples))
        print(
            f"{len(soak.asked)} calls: {len(soak.answered)} answered, {len(soak.given_up)} cancelled, "
            f"{len(soak.failed)} failed with a killed server; {soak.reloads} reloads"
        )
        return await asyncio.to_thread(problems, soak, journals, gateway, launcher.processes.log("gateway"))
    finally:
        await asyncio.to_thread(launcher.processes.end)


def seconds_of(text: str) -> float:
    """The seconds in a text such as `90s`, `10m` or `8h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s, 10m or 8h")
    return float(found[1]) * UNITS[found[2]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--time", type=seconds_of, default=600.0, help="90s, 10m, 8h; default: 10m")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()  # the client library logs what its own cancelled calls leave behind
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = asyncio.run(run(options.time, options.seed, Path(folder)))
    if found:
        raise SystemExit("\n".join(["The soak failed:", *found[:50]]))
    print("no slope, no call twice, nothing left")


if __name__ == "__main__":
    main()
