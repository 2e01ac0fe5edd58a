"""`rad mcp proxy sessions`: the sessions of agents of revisions up to 2025-11-25; ends one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway_core.cli.client import fetch, send
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import put_json, say
from gateway_core.cli.running import instance


def sessions(config: Path | None, end: str | None, *, as_json: bool) -> None:
    """Print the sessions, or end the one whose key is `end`. Raises `NotRunning`, `NotAnswering`, `Failed`."""
    running = instance(config)
    if end is not None:
        send(running, "POST", f"sessions/{quote(end, safe='')}/end")
        say(f"ended {end}; its agent may open another one")
        return
    found = fetch(running, "sessions")
    if as_json:
        put_json(found)
        return
    if not found["sessions"]:
        say("no sessions are open; agents of the revision 2026-07-28 have none")
        return
    names = ("key", "agent", "client", "revision", "streams", "calls", "subscriptions", "idle")
    numbers = {"streams", "calls", "subscriptions", "idle"}
    show_table(names, map(_row, found["sessions"]), right=numbers, whole={"key", "agent"})


def _row(one: dict[str, Any]) -> list[str]:
    return [
        one["key"],
        one["agent"],
        one["client"] or "-",
        one["protocol_version"] or "-",
        str(one["streams"]),
        str(one["calls"]),
        str(one["subscriptions"]),
        "-" if one["idle"] is None else duration(one["idle"]),
    ]
