"""`rad mcp proxy questions`: the calls that wait for people; ends one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from gateway_core.cli.client import act, fetch
from gateway_core.cli.live.events import call_of
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import put_json, say
from gateway_core.cli.running import instance


def questions(config: Path | None, cancel: str | None, *, as_json: bool) -> None:
    """Print the questions, or end the call of the one whose id is `cancel`.

    Raises `NotRunning`, `NotAnswering`, `Failed`.
    """
    running = instance(config)
    if cancel is not None:
        act(running, f"questions/{quote(cancel, safe='')}/cancel", f"question {cancel}; it may be answered")
        say(f"cancelled {cancel}")
        return
    found = fetch(running, "questions")
    if as_json:
        put_json(found)
        return
    if not found["questions"]:
        say("no questions wait for people")
        return
    names = ("id", "call", "asked by", "agent", "kind", "for")
    rows = (
        [one["id"], call_of(one), one["source"], one["agent"], one["kind"], duration(one["seconds"])]
        for one in found["questions"]
    )
    show_table(names, rows, right={"for"}, whole={"id", "call"})
