"""What an idle legacy agent costs the gateway in memory: by its session alone, and with a standalone GET stream open.

    python memory.py [COUNT]

By difference: the resident memory after some agents have come, and again after COUNT more. The first ones pay for what
is allocated once.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import processes
import targets
from matrix import Stage
from mcp_client import LEGACY, Client
from report import Row, number

COUNT = 1500
_FIRST = 300
_SETTLE = 1.0
"""Seconds after which what was allocated in passing has been given back."""


def measure(count: int = COUNT) -> list[Row]:
    """KB (1,000 bytes) per agent: `session_kb` and `stream_kb`, the latter with its session and its connection."""
    session, stream = _each(count, streams=False), _each(count, streams=True)
    lines = ["| idle legacy agent | KB each |", "|---|---:|"]
    lines.append(f"| session, no connection open | {number(session)} |")
    lines.append(f"| session with an open SSE stream | {number(stream)} |")
    title = f"Memory of idle agents, over {count:,} of each"
    return [{"title": title, "table": lines, "session_kb": round(session, 2), "stream_kb": round(stream, 2)}]


def _each(count: int, *, streams: bool) -> float:
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream, ports = targets.upstreams(processes.OUT, scratch, Stage())
        stack.callback(upstream.process.stop)
        gateway = targets.gateway_quiet(ports, scratch)
        stack.callback(gateway.process.stop)
        client = Client(gateway.port, "legacy")
        stack.callback(client.close)

        def arrive() -> None:
            session = client.open()
            if streams:
                stack.callback(_open_stream(gateway.port, session).close)

        _repeat(arrive, _FIRST)
        before = processes.rss_mb(gateway.process.pid)
        _repeat(arrive, count)
        return 1000 * (processes.rss_mb(gateway.process.pid) - before) / count


def _repeat(arrive: Callable[[], None], count: int) -> None:
    for _ in range(count):
        arrive()
    time.sleep(_SETTLE)


def _open_stream(port: int, session: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    lines = ["GET /mcp HTTP/1.1", f"Host: 127.0.0.1:{port}", "Accept: text/event-stream"]
    lines += [f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {LEGACY}"]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    head = connection.recv(4096)
    if not head.startswith(b"HTTP/1.1 200") or b"text/event-stream" not in head.lower():
        raise RuntimeError(f"no stream: {head[:200]!r}")
    return connection


if __name__ == "__main__":
    processes.build()
    for row in measure(*map(int, sys.argv[1:])):
        print("\n".join(row["table"]))
