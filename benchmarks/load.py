"""One measurement: some connections of one request against one target, with the CPU time that the target used."""

from __future__ import annotations

import contextlib
import http.client
import json
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
from matrix import SIZES, STAGES, Scenario, agent_calls
from mcp_client import Client, Record
from targets import Running


def measure(
    scenario: Scenario, target: Running, *, upstream_port: int, tools: Path, warm: float, seconds: float
) -> dict[str, Any]:
    """Runs the load; returns mcpload's figures plus what the target and its children used.

    These are `cpu_us` per call, `busy` (the share of a processor), `rss_mb`, and `upstream_requests` per call.
    Raises `RuntimeError` when the target does not open sessions, does not echo, or the load does not end in time.
    """

    def spent() -> tuple[float, int]:
        return processes.cpu_seconds(target.process.pid), _arrived(upstream_port)

    with prepared(scenario, target, tools, warm, seconds) as argv:
        figures, (cpu, requests) = _run(argv, spent, warm + seconds + 20)
    calls = figures["calls"]
    if not calls:
        raise RuntimeError(f"no call was answered: {figures['first_error']}")
    figures["cpu_us"] = round(cpu / calls * 1e6, 2)
    figures["busy"] = round(cpu / figures["seconds"], 3)
    figures["rss_mb"] = round(processes.rss_mb(target.process.pid), 1)
    figures["upstream_requests"] = round(requests / calls, 2)
    return figures


@contextlib.contextmanager
def beside(scenario: Scenario, target: Running, *, tools: Path, seconds: float) -> Iterator[None]:
    """Runs a load while something else is measured, which must take less than `seconds`.

    Raises `RuntimeError` as `measure` does, and when an answer was wrong or none came.
    """
    with (
        prepared(scenario, target, tools, 0.0, seconds) as argv,
        processes.pinned(processes.cpus()[1]),
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as load,
    ):
        try:
            yield
            if load.poll() is not None:
                raise RuntimeError("the load beside the measured one ended before it")
            output, _ = load.communicate(timeout=seconds + 20)
        except BaseException:
            load.kill()
            raise
    figures = json.loads(output.splitlines()[-1])
    if figures["errors"] or not figures["calls"]:
        raise RuntimeError(f"{figures['calls']} answers, {figures['errors']} wrong: {figures['first_error']}")


@contextlib.contextmanager
def prepared(scenario: Scenario, target: Running, tools: Path, warm: float, seconds: float) -> Iterator[list[str]]:
    """Opens the sessions and ends them afterwards; gives the command line of mcpload."""
    client = Client(target.port, scenario.era, target.path)
    try:
        count = scenario.connections if scenario.era == "legacy" else 1
        sessions = tuple(client.open() for _ in range(count))
        asked = requests_of(client, scenario, sessions)
        # the load's connections come on top of this one, and targets may bound how many there are
        client.close()
        with tempfile.NamedTemporaryFile() as file:
            for record in (record for records in asked for record in records):
                file.write(packed(record))
            file.flush()
            timing = [str(scenario.connections), str(warm), str(seconds)]
            yield [str(tools / "mcpload"), str(target.port), *timing, file.name, str(len(asked[0]))]
        client.close(sessions)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def packed(record: Record) -> bytes:
    """A record as mcpload reads it."""
    count = len(record.places)
    head = struct.pack(f"<III{count}I", len(record.data), record.least, count, *record.places)
    return head + record.data


def requests_of(client: Client, scenario: Scenario, sessions: tuple[str, ...]) -> list[list[Record]]:
    """What each session sends in turn. What is asked for is tried out once."""
    stage = STAGES[scenario.stage]
    pages = client.tools(sessions[0])
    names = [name for page in pages for name in page]
    if scenario.what == "list":
        if len(names) != stage.upstreams * stage.tools:
            raise RuntimeError(f"{len(names)} tools are listed, not {stage.upstreams * stage.tools}")
        # a definition is longer than its name
        return [[client.list_record(session, sum(map(len, pages[0])))] for session in sessions]
    # the one in the middle of many: a target that looks through its upstreams has to look through half of them
    wanted = "echo" if stage.upstreams == 1 else f"echo_{stage.upstreams // 2:03d}"
    tool = next((name for name in names if name.endswith(wanted)), None)
    if tool is None:
        raise RuntimeError(f"the tool {wanted} is not listed")
    asks = agent_calls() if scenario.what == "agent" else [SIZES[scenario.size]]
    client.call(sessions[0], tool, asks[0])
    return [[client.call_record(session, tool, ask) for ask in asks] for session in sessions]


def _run(
    argv: list[str], spent: Callable[[], tuple[float, int]], patience: float
) -> tuple[dict[str, Any], tuple[float, int]]:
    """Runs mcpload; returns its figures, and what `spent` rose by during the measured time."""
    with (
        processes.pinned(processes.cpus()[1]),
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as load,
    ):
        watchdog = threading.Timer(patience, load.kill)
        watchdog.start()
        try:
            marks, last = [], ""
            assert load.stdin is not None
            assert load.stdout is not None
            assert load.stderr is not None
            for line in load.stdout:
                if line in {"B\n", "E\n"}:
                    marks.append(spent())
                if line == "B\n":
                    load.stdin.close()  # it waits for that
                last = line
            complaint = load.stderr.read()
        finally:
            watchdog.cancel()
    if len(marks) != 2 or not last.startswith("{"):
        raise RuntimeError(f"the load ended without figures: {complaint[:300].strip()}")
    begin, end = marks
    return json.loads(last), (end[0] - begin[0], end[1] - begin[1])


def _arrived(upstream_port: int) -> int:
    """HTTP requests that the upstreams have received so far."""
    connection = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=5)
    try:
        connection.request("GET", "/counts")
        counts = json.loads(connection.getresponse().read())
        return int(counts["requests"])
    finally:
        connection.close()
