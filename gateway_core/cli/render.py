"""Renders status, tools and plugins as text for people.

Names, descriptions and errors come from upstreams, so every text is escaped and never read as markup.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from unicodedata import east_asian_width

from gateway_core.log.escaping import escape, wants_colour

MIB: Final = 1024 * 1024
MAX_CELL: Final = 200
"""Characters shown of a cell, an error or a warning; `--json` has the full text."""
_COLOURS: Final = {
    ("state", "healthy"): 32,
    ("state", "connecting"): 33,
    ("state", "ejected"): 33,
    ("state", "down"): 31,
    ("state", "misconfigured"): 31,
}
_MIN_FOLDED: Final = 20
"""Minimum terminal cells of the last column when a table is narrowed."""
_GAP: Final = "   "


def start_summary(status: dict[str, Any]) -> str:
    """The text that `start` prints on a terminal once it listens."""
    upstreams = [
        f"{escape(one['name'])}  {one['transport']}  {escape(one['target'])}  {_note(one)}"
        for one in status["upstreams"]
    ]
    plugins = ", ".join(one["name"] for one in status["plugins"])
    lines = [
        f"Radium MCP gateway {status['version']}, pid {status['pid']}",
        *_row("agents connect to", [_endpoint(status)]),
        *_row("control plane", [status["control"]]),
        *_row("configuration", [escape(str(status["config"]))]),
        *_row("upstreams", upstreams or ["none yet; add [[mcp.proxy.upstreams]] to the configuration"]),
        *_row("plugins, in order", [plugins or "none"]),
        *_row("to stop it", ["Ctrl+C, or: rad mcp proxy stop"]),
    ]
    return "\n".join(lines)


def _note(one: dict[str, Any]) -> str:
    """The priority, or why the upstream is not used."""
    return one["state"] if one["state"] in {"disabled", "misconfigured"} else f"priority {one['priority']}"


def _row(label: str, values: Sequence[str]) -> list[str]:
    return [f"  {label if not index else '':<18} {value}" for index, value in enumerate(values)]


def _endpoint(status: dict[str, Any]) -> str:
    if not status["address"]:
        return "none yet: the gateway is starting, or agents connect over stdin and stdout"
    return f"{status['address']}/{'sse' if status['transport'] == 'sse' else 'mcp'}"


def show_status(status: dict[str, Any]) -> None:
    """Print the response of GET `/admin/status`."""
    state = "draining" if status["draining"] else "ready" if status["ready"] else "not ready: no upstream is reachable"
    plugins = ", ".join(escape(str(one["name"])) for one in status["plugins"])
    head = {
        "running": f"pid {status['pid']}, up {duration(status['uptime'])}, version {status['version']}, {state}",
        "address": _endpoint(status),
        "control plane": status["control"],
        "configuration": escape(str(status["config"])),
        "agents": f"{_count(status['connections'], 'connection')}, {_count(status['sessions'], 'session')}",
        "calls": f"{status['calls']} so far, {status['in_flight']} in flight",
        "memory": f"{status['memory']['used'] / MIB:,.0f} of {status['memory']['limit'] / MIB:,.0f} MiB",
        "plugins, in order": plugins or "none",
    }
    for label, value in head.items():
        print(f"{label:<18} {value}")
    if not status["upstreams"]:
        print(f"{'upstreams':<18} none; add [[mcp.proxy.upstreams]] to the configuration")
        return
    _show_upstreams(status["upstreams"])
    for one in status["upstreams"]:
        if one["last_error"]:  # below the table, because it is too long for a column
            print(f"{escape(one['name'])}: last error: {_cut(one['last_error'])}")
        for warning in one["warnings"]:
            print(f"warning: {_cut(warning)}")


def _show_upstreams(upstreams: Sequence[dict[str, Any]]) -> None:
    names = ("upstream", "state", "era", "tools", "lists", "calls", "errors", "latency", "next retry")
    print()
    show_table(names, map(_upstream, upstreams), right={"tools", "calls", "errors", "latency"}, colours=_COLOURS)
    print()


def _width(text: str) -> int:
    """Terminal cells that `text` takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _upstream(one: dict[str, Any]) -> list[str]:
    latency, retry, age = one["latency_ms"], one["next_retry_in"], one["lists_age"]
    return [
        one["name"],
        one["state"],
        one["era"] or "-",
        str(one["tools"]),
        one["lists"] if age is None else f"{one['lists']}, {duration(age)}",
        str(one["calls"]),
        str(one["errors"]),
        "-" if latency is None else f"{latency:.1f} ms",
        "-" if retry is None else f"in {duration(retry)}",
    ]


def show_tools(answer: dict[str, Any]) -> None:
    """Print the response of GET `/admin/tools`."""
    rows = [[one["name"], ", ".join(one["upstreams"]), one["description"]] for one in answer["tools"]]
    if rows:
        show_table(("tool", "upstreams", "description"), rows)
    else:
        print("no tools")
    for conflict in answer["conflicts"]:
        print(f"{conflict['kind']} {escape(conflict['name'])} is claimed more than once: {escape(conflict['outcome'])}")
        for claim in conflict["claims"]:
            outcome = "dropped" if claim["published"] is None else f"published as {escape(claim['published'])}"
            print(f"  {escape(', '.join(claim['upstreams']))}: {outcome}")
    for note in answer.get("notes", ()):
        print(f"note: {escape(note)}")
    for warning in answer["warnings"]:
        print(f"warning: {escape(warning)}")


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    colours: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> None:
    """Print a table on stdout, every cell escaped and cut to `MAX_CELL`.

    Columns named in `right` are aligned to the right. `colours`: (column, text of the whole cell) -> its colour on a
    terminal (ECMA-48, SGR). On a narrow terminal the last column wraps.
    """
    cells = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    widths[-1] = min(widths[-1], max(_line_width() - sum(widths[:-1]) - len(_GAP) * (len(widths) - 1), _MIN_FOLDED))
    shown = colours if wants_colour(sys.stdout) else {}

    def put_line(line: Sequence[str]) -> None:
        aligned = []
        for name, text, width in zip(columns, line, widths, strict=True):
            space, colour = " " * (width - _width(text)), shown.get((name, text))
            painted = text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"
            aligned.append(space + painted if name in right else painted + space)
        print(_GAP.join(aligned).rstrip())

    put_line(columns)
    print("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    for *row, last in cells:
        first, *more = _folded(last, widths[-1])
        put_line([*row, first])
        for part in more:
            put_line([*("" for _ in row), part])


def _line_width() -> int:
    """Terminal cells of a line; unlimited in a pipe, unless COLUMNS is set."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else sys.maxsize


def _folded(text: str, width: int) -> Iterator[str]:
    """Wrap `text` to lines of at most `width` terminal cells, between words if possible."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if _width(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for character in word:
            if _width(line + character) > width:
                yield line
                line = ""
            line += character
    yield line


def _cut(text: str) -> str:
    text = escape(" ".join(text.split()))
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def duration(seconds: float) -> str:
    """Format as `5 s`, `3 min 0 s`, `2 h 5 min` or `4 d 1 h`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
