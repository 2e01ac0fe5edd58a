"""`rad mcp proxy calls`: the calls in flight and the calls that wait for people; cancels one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gateway_core.cli.client import fetch, send
from gateway_core.cli.live.events import call_of
from gateway_core.cli.live.following import clock
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.rendering.table import RED, YELLOW, show_table
from gateway_core.cli.report import put_json, say
from gateway_core.cli.running import instance

CALL_CELLS: Final = ("call", "upstream", "agent", "state", "for")
"""What `call_cells` returns."""
WAITING: Final = ("asks its user", "waits for its agent")
"""States of calls that wait for people."""
FAILURES: Final = ("tool_error", "error", "refused", "unavailable", "unknown")
"""Outcomes of calls that went wrong."""


def calls(config: Path | None, cancel: str | None, *, recent: bool, as_json: bool) -> None:
    """Print the calls, or end the one whose id is `cancel`. `recent`: those that have ended.

    Raises `NotRunning`, `NotAnswering`, `Failed`.
    """
    running = instance(config)
    if cancel is not None:
        send(running, "POST", f"calls/{quote(cancel, safe='')}/cancel")
        say(f"cancelled {cancel}")
        return
    if recent:
        _recent(fetch(running, "calls/recent"), as_json=as_json)
        return
    found = fetch(running, "calls")
    if as_json:
        put_json(found)
        return
    if not found["calls"]:
        say("no calls are in flight")
        return
    oldest_first = sorted(found["calls"], key=lambda one: -one["seconds"])
    rows = ([one["id"], *call_cells(one)] for one in oldest_first)
    colours = {("state", state): YELLOW for state in WAITING}
    show_table(("id", *CALL_CELLS), rows, right={"for"}, colours=colours, whole={"id", "call"})


def _recent(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        put_json(found)
        return
    if not found["calls"]:
        say("no calls have ended that were recorded; from now on, and for ten minutes, all are")
        return
    names = ("ended", "call", "outcome", "upstream", "agent", "ms", "id")
    rows = (
        [
            clock(one["at"]),
            call_of(one),
            one["outcome"],
            one["upstream"] or "-",
            one["agent"],
            f"{one['seconds'] * 1000:.1f}",
            one["id"],
        ]
        for one in found["calls"]
    )
    colours = {("outcome", it): RED for it in FAILURES}
    show_table(names, rows, right={"ms"}, colours=colours, whole={"call", "outcome"})


def call_cells(one: dict[str, Any]) -> tuple[str, ...]:
    """A call in flight, or one that waits for its agent, as people read it: `CALL_CELLS`."""
    agent = one["agent"] if one["verified"] else f"{one['agent']} (not verified)"
    return call_of(one), one["upstream"] or "-", agent, _state(one), duration(one["seconds"])


def _state(one: dict[str, Any]) -> str:
    if one["asking"]:
        return "asks its user"
    if one["parked"]:
        return "waits for its agent"
    return "sent" if one["sent"] else "not sent yet"
