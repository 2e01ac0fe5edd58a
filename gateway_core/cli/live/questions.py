"""`rad mcp proxy questions`: the calls that wait for people; answers or ends one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from gateway_core.cli.client import fetch, send
from gateway_core.cli.live.events import call_of
from gateway_core.cli.locate import UsageError
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import put_json, say
from gateway_core.cli.running import instance
from gateway_core.log.escaping import escape

QUESTION_CELLS: Final = ("call", "asked by", "agent", "kind", "for")
"""What `question_cells` returns."""


def questions(config: Path | None, cancel: str | None, approve: str | None, deny: str | None, *, as_json: bool) -> None:
    """Print the questions, or end the call of one. Or answer it: `cancel`, `approve` and `deny` are ids.

    Raises `UsageError` for more than one of these, and `NotRunning`, `NotAnswering`, `Failed`.
    """
    if sum(one is not None for one in (cancel, approve, deny)) > 1:
        raise UsageError("--cancel, --approve and --deny exclude each other")
    running = instance(config)
    if cancel is not None:
        send(running, "POST", f"questions/{quote(cancel, safe='')}/cancel")
        say(f"cancelled {cancel}")
        return
    for answered, question, verb in ((True, approve, "approved"), (False, deny, "denied")):
        if question is not None:
            send(running, "POST", f"questions/{quote(question, safe='')}/answer", {"approve": answered})
            say(f"{verb} {question}")
            return
    found = fetch(running, "questions")
    if as_json:
        put_json(found)
        return
    if not found["questions"]:
        say("no questions wait for people")
        return
    rows = ([one["id"], *question_cells(one)] for one in found["questions"])
    show_table(("id", *QUESTION_CELLS), rows, right={"for"}, whole={"id", "call"})
    for one in found["questions"]:
        if one["text"]:
            lines = "\n".join(f"  {escape(line)}" for line in one["text"].splitlines())
            print(f"\n{escape(one['id'])} waits for --approve or --deny:\n{lines}")


def question_cells(one: dict[str, Any]) -> tuple[str, ...]:
    """A call that waits for a person, as people read it: `QUESTION_CELLS`."""
    return call_of(one), one["source"], one["agent"], one["kind"], duration(one["seconds"])
