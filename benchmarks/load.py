"""One measurement: some connections of `tools/call` against one target, with the CPU time that the target used."""

from __future__ import annotations

import http.client
import json
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import processes
from mcp_client import TEXT, Client

SIZES = {"100B": 1, "1KB": 10, "10KB": 100, "1MB": 10_000}
"""Text of a result -> how often the upstream repeats the 100 B that it got."""


@dataclass(frozen=True, slots=True)
class Scenario:
    era: str
    connections: int
    size: str


def measure(
    scenario: Scenario, *, port: int, pid: int, upstream_port: int, tools: Path, warm: float, seconds: float
) -> dict[str, Any]:
    """Runs the load; returns mcpload's figures plus `cpu_us` per call, `rss_mb` and `upstream_requests` per call.

    Raises `RuntimeError` when the target does not open sessions, does not echo, or the load does not end in time.
    """
    repeat = SIZES[scenario.size]
    client = Client(port, scenario.era)
    try:
        count = scenario.connections if scenario.era == "legacy" else 1
        sessions = tuple(client.open() for _ in range(count))
        client.call(sessions[0], repeat)
        records = [client.record(session, repeat) for session in sessions]
        # the load's connections come on top of this one, and targets may bound how many there are
        client.close()
        with tempfile.NamedTemporaryFile() as file:
            for record in records:
                file.write(struct.pack("<III", len(record.data), record.id_at, record.mark_at) + record.data)
            file.flush()
            timing = [str(scenario.connections), str(warm), str(seconds)]
            argv = [str(tools / "mcpload"), str(port), *timing, file.name, str(len(TEXT) * repeat)]

            def spent() -> tuple[float, int]:
                return processes.cpu_seconds(pid), _arrived(upstream_port)

            figures, (cpu, requests) = _run(argv, spent, warm + seconds + 20)
        client.close(sessions)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error
    calls = figures["calls"]
    if not calls:
        raise RuntimeError(f"no call was answered: {figures['first_error']}")
    figures["cpu_us"] = round(cpu / calls * 1e6, 2)
    figures["rss_mb"] = round(processes.rss_mb(pid), 1)
    figures["upstream_requests"] = round(requests / calls, 2)
    return figures


def _run(
    argv: list[str], spent: Callable[[], tuple[float, int]], patience: float
) -> tuple[dict[str, Any], tuple[float, int]]:
    """Runs mcpload; returns its figures, and what `spent` rose by during the measured time."""
    with (
        processes.pinned(processes.cpus()[1]),
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as load,
    ):
        watchdog = threading.Timer(patience, load.kill)
        watchdog.start()
        try:
            marks, last = [], ""
            assert load.stdout is not None
            assert load.stderr is not None
            for line in load.stdout:
                if line in {"B\n", "E\n"}:
                    marks.append(spent())
                last = line
            complaint = load.stderr.read()
        finally:
            watchdog.cancel()
    if len(marks) != 2 or not last.startswith("{"):
        raise RuntimeError(f"the load ended without figures: {complaint[:300].strip()}")
    begin, end = marks
    return json.loads(last), (end[0] - begin[0], end[1] - begin[1])


def _arrived(upstream_port: int) -> int:
    """HTTP requests that the upstream has received so far."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=5)
    try:
        connection.request("GET", "/counts")
        counts = json.loads(connection.getresponse().read())
        return int(counts["requests"])
    finally:
        connection.close()
