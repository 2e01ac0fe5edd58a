"""Whether what a driver reported is right, and in what words it is not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from upstreams import Ask

REASON_LIMIT: Final = 200


def judge(
    can: Sequence[str], reports: Sequence[Mapping[str, Any]], asks: Mapping[str, Ask], drops_progress: bool
) -> dict[str, str | None]:
    """Each step that the client can and the server has: None where it went right, else what went wrong."""
    said = {report["step"]: report for report in reports}
    results: dict[str, str | None] = {"connect": _error(said, "connect")}
    for step, ask in asks.items():
        if step in can:
            results[step] = _error(said, step) or _wrong(step, ask.right, said[step]["got"], drops_progress)
    return results


def _error(said: Mapping[str, Mapping[str, Any]], step: str) -> str | None:
    if step in said:
        error: str | None = said[step].get("error")
        return error
    if step != "connect" and "error" in said.get("connect", {}):
        return "not connected"
    return "the client said nothing more"


def _wrong(step: str, right: str | list[Any], got: Any, drops_progress: bool) -> str | None:
    if step == "progress":
        holds = got == right or (drops_progress and got == right[:-1])
    elif isinstance(right, str):
        holds = right in str(got)
    else:
        missing = [each for each in right if each not in got]
        return f"{', '.join(missing)} is missing" if missing else None
    return None if holds else f"{right} was expected, not {got}"


def clean(text: str, workspace: Path) -> str:
    """A reason that is the same on every machine and in every run, in one line."""
    text = " ".join(text.split()).replace(str(workspace), "WORKSPACE")
    text = re.sub(r"^MCP error -?\d+: ", "", text)  # the TypeScript SDK's own words, before those of the answer
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    text = re.sub(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b", "ID", text)
    return text if len(text) <= REASON_LIMIT else f"{text[:REASON_LIMIT]}…"
