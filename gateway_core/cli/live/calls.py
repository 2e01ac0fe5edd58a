"""`rad mcp proxy calls`: the calls in flight and the calls that wait for people; cancels one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway_core.cli.client import act, fetch
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.rendering.table import YELLOW, show_table
from gateway_core.cli.report import put_json, say
from gateway_core.cli.running import instance


def calls(config: Path | None, cancel: str | None, *, as_json: bool) -> None:
    """Print the calls, or end the one whose id is `cancel`. Raises `NotRunning`, `NotAnswering`, `Failed`."""
    running = instance(config)
    if cancel is not None:
        act(running, f"calls/{quote(cancel, safe='')}/cancel", f"call {cancel}; it may have ended")
        say(f"cancelled {cancel}")
        return
    found = fetch(running, "calls")
    if as_json:
        put_json(found)
        return
    if not found["calls"]:
        say("no calls are in flight")
        return
    oldest_first = sorted(found["calls"], key=lambda one: -one["seconds"])
    names = ("id", "call", "upstream", "agent", "state", "for")
    colours = {("state", state): YELLOW for state in ("asks its user", "waits for its agent")}
    show_table(names, map(_row, oldest_first), right={"for"}, colours=colours, whole={"id", "call"})


def _row(one: dict[str, Any]) -> list[str]:
    call = one["name"] if one["method"] == "tools/call" else f"{one['method']} {one['name']}"
    agent = one["agent"] if one["verified"] else f"{one['agent']} (not verified)"
    return [one["id"], call, one["upstream"] or "-", agent, _state(one), duration(one["seconds"])]


def _state(one: dict[str, Any]) -> str:
    if one["asking"]:
        return "asks its user"
    if one["parked"]:
        return "waits for its agent"
    return "sent" if one["sent"] else "not sent yet"
