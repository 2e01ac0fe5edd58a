"""`rad mcp proxy definitions`: the definitions that servers changed, before and after; marks them as seen."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.client import fetch, send
from gateway_core.cli.hints import command
from gateway_core.cli.live.following import clock, page_of
from gateway_core.cli.rendering.table import GREEN, RED, painted
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.cli.running import instance
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count

MAX_SHOWN: Final = 500
"""Changes that are fetched: as many as the gateway keeps."""
_CONTEXT: Final = 2
"""Lines around a difference that are shown."""
_COLOURS: Final = {"+": GREEN, "-": RED}


def definitions(config: Path | None, upstream: str, *, every: bool, seen: bool, as_json: bool) -> None:
    """Print the changes, oldest first; with `seen`, mark them as seen.

    `upstream`: only changes of this one, if not empty. `every`: also changes that are marked. Raises `NotRunning`,
    `NotAnswering`, and `Failed`, also if there are no changes of `upstream` and no upstream has this name.
    """
    running = instance(config)
    query = {"limit": MAX_SHOWN, "unseen": "false" if every else "true", "upstream": upstream}
    found = fetch(running, page_of("definitions/changes", query))
    changes = found["changes"]
    if upstream and not changes and all(one["name"] != upstream for one in fetch(running, "status")["upstreams"]):
        raise Failed(f"there is no upstream {upstream!r}; `{command('status')}` lists them")
    if as_json:
        put_json(found)
    else:
        for change in reversed(changes):
            _show(change)
    if not changes and not as_json:
        who = f"upstream {escape(upstream)}" if upstream else "no server"
        has = "has changed no definition" if upstream else "has changed a definition"
        say(f"{who} {has}" + ("" if every else " that is not marked as seen"))
    if found["left_out"] and not as_json:
        say(f"left out, because there was no room: {count(found['left_out'], 'change')}")
    unseen = [change["id"] for change in changes if not change["seen"]]
    if seen:
        marked = send(running, "POST", "definitions/changes/seen", {"ids": unseen})["seen"]
        say(f"marked as seen: {count(marked, 'change')}")
    elif unseen and not as_json:
        say(f"to mark them as seen: {command('definitions --seen')}")


def _show(change: Mapping[str, Any]) -> None:
    note = " (seen)" if change["seen"] else ""
    put(
        f"{clock(change['at'])} {escape(change['upstream'])} {change['what']} {change['kind']} {escape(change['name'])}"
        + note
    )
    for member in change["members"]:
        part = " (the part around the first difference)" if member["cut"] else ""
        put(f"  {escape(member['name'])}{part}")
        for line in _lines(member["before"], member["after"]):
            put("    " + painted(escape(line), _COLOURS[line[0]]) if line[0] in _COLOURS else f"    {escape(line)}")
    if change["more"]:
        put(f"  and {count(change['more'], 'more member')}")
    put("")


def _lines(before: str | None, after: str | None) -> Iterator[str]:
    """The lines that differ, marked `-` and `+`, with a few lines around them."""
    old, new = ([] if text is None else text.split("\n") for text in (before, after))
    for number, line in enumerate(difflib.unified_diff(old, new, lineterm="", n=_CONTEXT)):
        if number > 2:  # after the two lines that name files, and the one that begins the first hunk
            yield "…" if line.startswith("@@") else line
