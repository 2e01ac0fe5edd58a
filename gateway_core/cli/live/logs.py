"""`rad mcp proxy logs`: the last lines of the log of the running gateway, and those that come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from gateway_core.cli.client import fetch
from gateway_core.cli.live.following import Gateway, clock, page_of
from gateway_core.cli.rendering.table import RED, YELLOW, painted, sentence
from gateway_core.cli.report import put, put_json, say
from gateway_core.cli.running import instance

POLL: Final = 0.5
"""Seconds between two looks for new lines."""
AT_ONCE: Final = 1000
"""Lines of one answer."""
_COLOURS: Final = {"WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}


def logs(config: Path | None, lines: int, wanted: Mapping[str, str], *, follow: bool, as_json: bool) -> None:
    """Print the last `lines` lines that match `wanted`; with `follow`, later ones until the user interrupts it.

    Raises `NotRunning`, `NotAnswering`.
    """
    if not follow:
        found = fetch(instance(config), page_of("log", {"limit": lines, **wanted}))
        if as_json:
            put_json(found)
        else:
            _show(found)
        return
    gateway = Gateway(config)
    found = gateway.fetch("log", {"limit": lines, **wanted})
    while True:
        if found["missed"]:
            say(f"{found['missed']} lines came faster than they could be shown, and are left out")
        for line in found["lines"]:
            put_json(line, in_line=True) if as_json else _show({"lines": [line]})
        if len(found["lines"]) < AT_ONCE:
            time.sleep(POLL)
        found = gateway.fetch("log", {"limit": AT_ONCE, "after": found["last"], **wanted})


def _show(found: Mapping[str, Any]) -> None:
    for line in found["lines"]:
        level = line["level"]
        shown = f"{level:<7}"
        fields = "".join(f" {key}={value}" for key, value in line["fields"].items())
        colour = _COLOURS.get(level)
        head = shown if colour is None else painted(shown, colour)
        put(f"{clock(line['at'])} {head} {sentence(line['text'] + fields)}")
