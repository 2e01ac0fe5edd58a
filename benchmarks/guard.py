"""Sees that no hot path of the gateway has become slower than recorded; needs no compiler and under a minute.

    python guard.py            # exit status 1 when a path costs more than TOLERANCE times what is recorded
    python guard.py --record   # records what it measures, in guard.json

Instructions cannot be counted everywhere, and time differs between machines and from minute to minute. So what is
compared is a ratio: CPU of a call through the gateway to CPU of the same call through a small forwarder in plain Python
(`guard_servers.py`), in turns, and of each the best of many short measurements, which other load spoils least. The
requests come in volleys, one from each of some connections, so that every target sees the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import processes
import targets
from matrix import SIZES
from mcp_client import Client
from processes import HERE, Process

RECORD = HERE / "guard.json"
TOLERANCE = 1.5
CONNECTIONS, ROUNDS, SECONDS = 16, 11, 0.2
BASE = "forwarder"


@dataclass(frozen=True, slots=True)
class HotPath:
    """One hot path: which target, and what the agents ask it."""

    target: str
    era: str = "legacy"
    size: str = "100B"
    what: str = "call"


PATHS = {
    BASE: HotPath(BASE),
    "call, legacy agent": HotPath("gateway-min"),
    "call, modern agent": HotPath("gateway-min", era="modern"),
    "call, default plugins": HotPath("gateway-quiet"),
    "call of 1 KB, default plugins with payload log": HotPath("gateway", size="1KB"),
    "call, result of 10 KB": HotPath("gateway-min", size="10KB"),
    "tools/list": HotPath("gateway-min", what="list"),
}


class Agents:
    """Some connections that send the same request in volleys."""

    def __init__(self, path: HotPath, port: int) -> None:
        client = Client(port, path.era)
        text, repeat = SIZES[path.size]
        self._requests, self._connections = [], []
        for _ in range(CONNECTIONS):
            session = client.open()
            if path.what == "call":
                client.call(session, "echo", text, repeat)
            made = (
                client.list_record(session)
                if path.what == "list"
                else client.call_record(session, "echo", text, repeat)
            )
            self._requests.append(made.data)
            self._connections.append(socket.create_connection(("127.0.0.1", port), timeout=20))
        client.close()

    def volley(self) -> None:
        """One request on each connection, and its whole answer. Raises `RuntimeError` for a bad one."""
        for connection, request in zip(self._connections, self._requests, strict=True):
            connection.sendall(request)
        for connection in self._connections:
            answer = connection.recv(1 << 18)
            while not _whole(answer):
                more = connection.recv(1 << 18)
                if not more:
                    raise RuntimeError(f"cut off: {answer[:200]!r}")
                answer += more
            if not answer.startswith(b"HTTP/1.1 200") or b'"result"' not in answer:
                raise RuntimeError(f"bad answer: {answer[:300]!r}")

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _whole(answer: bytes) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    _, _, length = head.lower().partition(b"content-length: ")
    return len(body) >= int(length.split(b"\r\n", 1)[0]) if length else body.endswith(b"0\r\n\r\n")


@contextlib.contextmanager
def _servers() -> Iterator[dict[str, targets.Running]]:
    """The forwarder and the gateways, all before the one upstream."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix="guard-") as folder:
        scratch = Path(folder)
        cpu = processes.cpus()[0]
        upstream_port, port = processes.free_ports(2)
        script = [sys.executable, str(HERE / "guard_servers.py")]
        argv = [*script, "upstream", str(upstream_port)]
        upstream = Process(argv, cpu=cpu, port=upstream_port, log=scratch / "upstream.log")
        stack.callback(upstream.stop)
        argv = [*script, BASE, str(port), str(upstream_port)]
        running = {BASE: targets.Running(BASE, port, Process(argv, cpu=cpu, port=port, log=scratch / "forwarder.log"))}
        stack.callback(running[BASE].process.stop)
        for name in dict.fromkeys(path.target for path in PATHS.values() if path.target != BASE):
            running[name] = targets.LAUNCHERS[name]([upstream_port], scratch)
            stack.callback(running[name].process.stop)
        yield running


def measure(rounds: int = ROUNDS) -> dict[str, float]:
    """CPU µs of a request on each path, the best of some rounds."""
    best = dict.fromkeys(PATHS, float("inf"))
    with _servers() as running, processes.pinned(processes.cpus()[0]), contextlib.ExitStack() as stack:
        agents = {name: Agents(path, running[path.target].port) for name, path in PATHS.items()}
        for each in agents.values():
            stack.callback(each.close)
        for _ in range(rounds):
            for name, path in PATHS.items():
                best[name] = min(best[name], _cpu_us(agents[name], running[path.target].process.pid))
    return best


def _cpu_us(agents: Agents, pid: int) -> float:
    """CPU µs of a request, over some time after a first volley."""
    agents.volley()
    before, until, volleys = processes.cpu_seconds(pid), time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        agents.volley()
        volleys += 1
    return 1e6 * (processes.cpu_seconds(pid) - before) / (volleys * CONNECTIONS)


def ratios(cpu: Mapping[str, float]) -> dict[str, float]:
    """Each path's CPU as a multiple of the forwarder's."""
    return {name: round(cpu[name] / cpu[BASE], 2) for name in cpu if name != BASE}


def slower(measured: Mapping[str, float], recorded: Mapping[str, float]) -> list[str]:
    """What to complain about: paths above the tolerance, and paths that are not recorded."""
    found = []
    for name, ratio in measured.items():
        known = recorded.get(name)
        if known is None:
            found.append(f"{name}: nothing is recorded")
        elif ratio > known * TOLERANCE:
            found.append(f"{name}: {ratio:.2f} times the forwarder, recorded is {known:.2f}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--record", action="store_true", help="record what is measured")
    chosen = parser.parse_args(argv)
    if not Path("/proc/self/schedstat").exists():
        print("the guard reads CPU time from /proc/PID/schedstat: without it (not Linux) it guards nothing")
        return 0
    cpu = measure()
    measured = ratios(cpu)
    recorded = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    complaints = [] if chosen.record else slower(measured, recorded)
    if complaints:
        # a busy minute is over by now; a slower path is still slower
        again = measure(2 * ROUNDS)
        cpu = {name: min(cpu[name], again[name]) for name in cpu}
        measured = ratios(cpu)
        complaints = slower(measured, recorded)
    for name, value in measured.items():
        print(f"{name:50} {cpu[name]:8.1f} µs {value:7.2f} recorded {recorded.get(name, float('nan')):7.2f}")
    if chosen.record:
        RECORD.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints:
        print("If that is meant: make guard ARGS=--record, and say why in the commit.", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
