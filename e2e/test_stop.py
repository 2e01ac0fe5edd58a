"""The children of a gateway over servers by others end with it, however it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENDINGS = {signal.SIGTERM: 0, signal.SIGINT: 0, signal.SIGKILL: -signal.SIGKILL}


def descendants(pid: int) -> set[int]:
    """The processes that a process started, and theirs."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name stands in parentheses and may hold anything, so count from behind it.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in {pid, *found}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those that still run; one that ended and was not reaped yet does not."""
    found = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            found.add(pid)
    return found


@pytest.mark.parametrize("number", ENDINGS, ids=lambda number: number.name)
def test_no_child_outlives_the_gateway(
    launcher: Any, tools: Any, workspace: Path, number: signal.Signals, wait_for: Callable[..., None]
) -> None:
    node = str(tools.node)
    upstreams = [
        {"name": "everything", "transport": "stdio", "command": node, "args": [tools.server("everything")]},
        {"name": "files", "transport": "stdio", "command": node, "args": [tools.server("filesystem"), str(workspace)]},
        {"name": "git", "transport": "stdio", "command": str(tools.scripts / "mcp-server-git")},
    ]
    gateway = launcher.gateway({"upstreams": upstreams}, upstreams=3)
    children = descendants(gateway.process.pid)
    assert len(children) >= 3
    gateway.process.send_signal(number)
    assert gateway.process.wait(60) == ENDINGS[number]
    wait_for(lambda: not alive(children), "all children end")
