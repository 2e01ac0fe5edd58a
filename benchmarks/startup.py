"""How long the commands take: `rad mcp proxy status`, and from `start` to the first good `tools/list`.

    python startup.py

The gateway starts with two servers over stdio, one of them in Python and slow to start. What counts is what it adds to
that server's own start, which is measured the same way in turn: from its `exec` to the first answered `tools/list`.
Nothing is pinned to a processor here: servers start beside the gateway.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import processes
from mcp_client import LEGACY, Client
from report import Row, spread
from targets import rad

ROUNDS = 11
_SLOW = [sys.executable, "-m", "gateway_core.demo.stdio_server"]
_QUICK = [str(processes.OUT / "mcpup"), "-i"]
_PATIENCE = 60.0
_PAUSE = 0.004
"""Seconds between two looks: they cost the gateway time in which it and its servers start."""

_CONFIG = """\
[mcp.proxy]
enable = true
port = {port}

[[mcp.proxy.upstreams]]
name = "slow"
transport = "stdio"
command = {slow[0]}
args = {slow[1:]}

[[mcp.proxy.upstreams]]
name = "quick"
transport = "stdio"
command = {quick[0]}
args = {quick[1:]}
"""


def measure() -> list[Row]:
    """Milliseconds, each the median over some rounds: `status_ms`, `start_ms`, `server_ms`, `start_added_ms`."""
    started, server, status = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for _ in range(ROUNDS):
            own, tools = _server_start(_SLOW)
            server.append(own)
            with _gateway(Path(scratch)) as (config, port, begun):
                _first_list(port, tools)
                started.append(1000 * (time.perf_counter() - begun))
                status += [_status(config) for _ in range(3)]
    added = [one - other for one, other in zip(started, server, strict=True)]
    lines = ["| what | ms |", "|---|---:|"]
    lines.append(f"| `rad mcp proxy status`, whole process | {spread(status)} |")
    lines.append(f"| start of the gateway with two stdio servers, to the first good `tools/list` | {spread(started)} |")
    lines.append(f"| start of the slower server alone, to its first `tools/list` | {spread(server)} |")
    lines.append(f"| what the gateway adds | {spread(added)} |")
    figures = {"status_ms": status, "start_ms": started, "server_ms": server, "start_added_ms": added}
    medians = {name: round(statistics.median(values), 1) for name, values in figures.items()}
    return [{"title": "Start and status", "table": lines, **medians}]


@contextlib.contextmanager
def _child(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    child = subprocess.Popen(argv, text=True, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        child.communicate(timeout=20)


def _server_start(argv: Sequence[str]) -> tuple[float, int]:
    """(ms from a server's start to its list of tools, how many these are)."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    begun = time.perf_counter()
    with _child(argv) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for message in (
            {"id": 1, "method": "initialize", "params": hello},
            {"method": "notifications/initialized"},
            {"id": 2, "method": "tools/list"},
        ):
            child.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        child.stdin.flush()
        for line in child.stdout:
            answer = json.loads(line)
            if answer.get("id") == 2:
                return 1000 * (time.perf_counter() - begun), len(answer["result"]["tools"])
    raise RuntimeError(f"{argv} ended without a list of tools")


@contextlib.contextmanager
def _gateway(scratch: Path) -> Iterator[tuple[Path, int, float]]:
    """A starting gateway: its configuration, its port, when it was started."""
    folder = scratch / ".radium"
    folder.mkdir(exist_ok=True)
    config, port = folder / "mcp-proxy.toml", processes.free_port()
    # JSON's strings and lists are TOML's, too
    slow, quick = ([json.dumps(argv[0]), json.dumps(argv[1:])] for argv in (_SLOW, _QUICK))
    text = _CONFIG.replace("{slow[1:]}", slow[1]).replace("{quick[1:]}", quick[1])
    config.write_text(text.format(port=port, slow=slow, quick=quick))
    begun = time.perf_counter()
    with _child([rad(), "mcp", "proxy", "start", "--config", str(config)]):
        yield config, port, begun


def _first_list(port: int, slow_tools: int) -> None:
    """Returns as soon as a list has the tools of both servers."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        client = Client(port, "legacy")
        with contextlib.suppress(OSError, RuntimeError, http.client.HTTPException):
            session = client.open()
            while time.monotonic() < deadline:
                if sum(map(len, client.tools(session))) > max(slow_tools, 50):
                    return
                time.sleep(_PAUSE)
        client.close()
        time.sleep(_PAUSE)
    raise RuntimeError(f"no list of both servers' tools after {_PATIENCE:.0f} s")


def _status(config: Path) -> float:
    begun = time.perf_counter()
    # Read to its end: waiting for a process with a time limit alone is done in steps of 50 ms.
    argv = [rad(), "mcp", "proxy", "status", "--config", str(config)]
    subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=60)
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    processes.build()
    for row in measure():
        print("\n".join(row["table"]))
