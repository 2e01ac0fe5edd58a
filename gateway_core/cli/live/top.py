"""`rad mcp proxy top`: the traffic of the running gateway, live."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway_core.cli.client import fetch
from gateway_core.cli.instance import Instance, NotRunning
from gateway_core.cli.live.calls import CALL_CELLS, FAILURES, call_cells
from gateway_core.cli.live.events import call_of
from gateway_core.cli.live.following import next_instance
from gateway_core.cli.live.questions import QUESTION_CELLS, question_cells
from gateway_core.cli.rendering.pages import duration
from gateway_core.cli.running import NotAnswering, instance
from gateway_core.log.escaping import escape

REFRESH: Final = 1.0
"""Seconds between two looks."""
WINDOW: Final = 60.0
"""Seconds over which traffic is shown."""
MAX_CALLS: Final = 20_000
"""Calls of the window that are kept; the latest."""
_STATES: Final = {"healthy": "green", "connecting": "yellow", "ejected": "yellow", "down": "red", "needs_login": "red"}


@dataclass(slots=True)
class Picture:
    """What is known of the gateway."""

    status: dict[str, Any] = field(default_factory=dict)
    in_flight: list[dict[str, Any]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    ended: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_CALLS))
    last: int = 0
    trouble: str = ""
    """Why there is nothing newer."""
    rate: float = 0.0
    """Calls a second since the last look."""
    _counted: tuple[float, int] | None = None

    def look(self, running: Instance) -> None:
        """Ask the gateway. Raises `NotAnswering`."""
        self.status = fetch(running, "status")
        self.in_flight = sorted(fetch(running, "calls")["calls"], key=lambda one: -one["seconds"])
        self.questions = fetch(running, "questions")["questions"]
        found = fetch(running, f"calls/recent?limit=1000&after={self.last}")
        self.last = found["last"]
        self.ended.extend(reversed(found["calls"]))
        now, calls = time.monotonic(), int(self.status["calls"])
        if self._counted is not None and now > self._counted[0]:
            self.rate = max(0, calls - self._counted[1]) / (now - self._counted[0])
        self._counted = now, calls
        self.trouble = ""

    def lose(self, why: str) -> None:
        """The gateway does not answer: keep what is known."""
        self.trouble = why

    def window(self) -> list[dict[str, Any]]:
        """The recorded calls that ended within the window."""
        since = time.time() - WINDOW
        while self.ended and self.ended[0]["at"] < since:
            self.ended.popleft()
        return list(self.ended)


def top(config: Path | None) -> None:
    """Show it until the user ends it. Raises `NotRunning`, and `NotAnswering` for a gateway that never answered."""
    running: Instance | None = None
    picture = Picture()
    picture.look(instance(config))
    console = Console()
    if not console.is_terminal or not sys.stdin.isatty():
        console.print(drawn(picture, height=10_000))
        return
    paused = False
    with _keys() as key, Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        while True:
            live.update(drawn(picture, console.height, paused=paused), refresh=True)
            pressed = key(REFRESH)
            if pressed == "q":
                return
            paused ^= pressed == "p"
            if paused:
                continue
            try:
                running = next_instance(config) if running is None else running
                picture.look(running)
            except (NotRunning, NotAnswering):
                running = None
                picture.lose("the gateway does not answer; waiting for it")


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """The function that waits some seconds for a key and returns it; empty if none was pressed."""
    import termios  # noqa: PLC0415 - not on every system
    import tty  # noqa: PLC0415

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([stdin], [], [], seconds)
        if not ready:
            return ""
        data = os.read(stdin, 64)
        return data[:1].decode(errors="replace").lower() if data else "q"  # the terminal is closed

    try:
        tty.setcbreak(stdin)
        yield key
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def drawn(picture: Picture, height: int, *, paused: bool = False) -> RenderableType:
    """The picture, in at most `height` lines: what is below is left out."""
    calls = picture.window()
    parts: list[RenderableType] = [_head(picture, calls, paused=paused), _upstreams(picture, calls)]
    left = height - 6 - len(picture.status["upstreams"])
    if picture.questions and left > 4:
        parts.append(_questions(picture.questions[: min(5, left - 3)]))
        left -= 3 + min(5, len(picture.questions))
    if picture.in_flight and left > 4:
        shown = picture.in_flight[: min(8, left - 3)]
        parts.append(_in_flight(shown))
        left -= 3 + len(shown)
    wrong = [one for one in reversed(calls) if one["outcome"] in FAILURES][: max(0, min(10, left - 3))]
    if wrong:
        parts.append(_failures(wrong))
    return Group(*parts)


def _head(picture: Picture, calls: list[dict[str, Any]], *, paused: bool) -> Text:
    status, wrong = picture.status, sum(one["outcome"] in FAILURES for one in calls)
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"gateway {status['version']}  up {duration(status['uptime'])}", "bold")
    text.append(f"  in flight {status['in_flight']}  parked {status['parked']}")
    text.append(f"  sessions {status['sessions']}  generation {status['generation']}\n")
    text.append(f"{picture.rate:.1f} calls/s  last minute: {len(calls)} recorded")
    text.append(f"  {wrong} wrong", "red" if wrong else "")
    if calls:
        text.append(f"  median {_ms(calls, 0.5)} ms  p95 {_ms(calls, 0.95)} ms")
    text.append("\n")
    text.append(picture.trouble or ("paused; p goes on" if paused else "q quits, p pauses"), "dim")
    return text


def _ms(calls: list[dict[str, Any]], share: float) -> str:
    """A quantile of the durations, in milliseconds."""
    found = sorted(one["seconds"] for one in calls)
    return f"{found[min(len(found) - 1, int(len(found) * share))] * 1000:.1f}"


def _table(*columns: str, right: tuple[str, ...] = (), cut: tuple[str, ...]) -> Table:
    """A table of one line for each row. The columns `cut` give way first in a narrow terminal."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in columns:
        header = Text(name, no_wrap=True, overflow="ellipsis")
        table.add_column(header, justify="right" if name in right else "left", no_wrap=name not in cut)
    return table


def _cell(text: str, style: str = "") -> Text:
    """A text of others, without control characters and without rich's markup."""
    return Text(escape(text), style, no_wrap=True, overflow="ellipsis")


def _upstreams(picture: Picture, calls: list[dict[str, Any]]) -> Table:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for call in calls:
        by_name.setdefault(call["upstream"] or "", []).append(call)
    numbers = ("calls", "wrong", "p95 ms", "in flight", "queued")
    table = _table("upstream", "state", *numbers, "last error", right=numbers, cut=("upstream", "last error"))
    for one in picture.status["upstreams"]:
        own = by_name.get(one["name"], [])
        state = str(one["state"])
        table.add_row(
            _cell(one["name"]),
            Text(state.replace("_", " "), _STATES.get(state, "")),
            str(len(own)),
            str(sum(call["outcome"] in FAILURES for call in own)),
            _ms(own, 0.95) if own else "-",
            str(one["in_flight"]),
            str(one["queued"]),
            _cell(one["last_error"] or "", "red"),
        )
    return table


def _questions(found: list[dict[str, Any]]) -> Table:
    return _people("question", QUESTION_CELLS, map(question_cells, found))


def _in_flight(found: list[dict[str, Any]]) -> Table:
    return _people("in flight", CALL_CELLS, map(call_cells, found))


def _people(what: str, cells: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of calls, below an empty line. `what` stands above their names."""
    columns = [f"\n{what if name == 'call' else name}" for name in cells]
    table = _table(*columns, right=("\nfor",), cut=(f"\n{what}", "\nagent"))
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _failures(found: list[dict[str, Any]]) -> Table:
    columns = ("\nlast failures", "\noutcome", "\nupstream", "\nagent", "\nreason")
    table = _table(*columns, cut=(columns[0], columns[-1]))
    for one in found:
        reason = one["error"]["text"] if one["error"] else ""
        table.add_row(
            *map(_cell, (call_of(one), one["outcome"], one["upstream"] or "-", one["agent"], reason.split("\n")[0]))
        )
    return table
