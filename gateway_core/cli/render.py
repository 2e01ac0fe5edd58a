"""Status, tools and plugins as people read them.

Names, descriptions and errors come from upstreams, so every text is escaped, and none of it is read as markup.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final
from unicodedata import east_asian_width

from gateway_core.log.escaping import escape, wants_colour

MAX_CELL: Final = 200
"""Characters of a description or an error that are shown; `--json` has all of it."""
_COLOURS: Final = {"healthy": 32, "connecting": 33, "ejected": 33, "down": 31}
"""State -> colour on a terminal (ECMA-48, SGR)."""
_PIPE_WIDTH: Final = 200
"""A pipe has no width; a table in it must not be cut to that of an old terminal."""


def start_summary(status: dict[str, Any]) -> str:
    """What `start` says on a terminal once it listens."""
    upstreams = [
        f"{escape(one['name'])}  {one['transport']}  {escape(one['target'])}  priority {one['priority']}"
        for one in status["upstreams"]
    ]
    plugins = ", ".join(one["name"] for one in status["plugins"])
    lines = [
        f"Radium MCP gateway {status['version']}, pid {status['pid']}",
        *_row("agents connect to", [_endpoint(status)]),
        *_row("configuration", [escape(str(status["config"]))]),
        *_row("upstreams", upstreams or ["none yet; add [[mcp.proxy.upstreams]] to the configuration"]),
        *_row("plugins, in order", [plugins or "none"]),
        *_row("to stop it", ["Ctrl+C, or: rad mcp proxy stop"]),
    ]
    return "\n".join(lines)


def _row(label: str, values: Sequence[str]) -> list[str]:
    return [f"  {label if not index else '':<18} {value}" for index, value in enumerate(values)]


def _endpoint(status: dict[str, Any]) -> str:
    return f"{status['address']}/{'sse' if status['transport'] == 'sse' else 'mcp'}"


def show_status(status: dict[str, Any]) -> None:
    """Print what GET `/admin/status` answered."""
    state = "draining" if status["draining"] else "ready" if status["ready"] else "not ready: no upstream is reachable"
    plugins = ", ".join(escape(str(one["name"])) for one in status["plugins"])
    head = {
        "running": f"pid {status['pid']}, up {duration(status['uptime'])}, version {status['version']}, {state}",
        "address": _endpoint(status),
        "configuration": escape(str(status["config"])),
        "agents": f"{_count(status['connections'], 'connection')}, {_count(status['sessions'], 'session')}",
        "calls": f"{status['calls']} so far, {status['in_flight']} in flight",
        "plugins, in order": plugins or "none",
    }
    for label, value in head.items():
        print(f"{label:<18} {value}")
    if not status["upstreams"]:
        print(f"{'upstreams':<18} none; add [[mcp.proxy.upstreams]] to the configuration")
        return
    _show_upstreams(status["upstreams"])
    for one in status["upstreams"]:
        if one["last_error"]:  # below the table: in a column of a narrow terminal nobody could read it
            print(f"{escape(one['name'])}: last error: {_cut(one['last_error'])}")
        for warning in one["warnings"]:
            print(f"warning: {_cut(warning)}")


def _show_upstreams(upstreams: Sequence[dict[str, Any]]) -> None:
    """One line each, in columns. Without rich, which takes longer to load than all the rest of `status` takes."""
    names = ("upstream", "state", "era", "tools", "lists", "calls", "errors", "latency", "next retry")
    right = {"tools", "calls", "errors", "latency"}
    coloured = wants_colour(sys.stdout)
    rows = [[_cut(cell) for cell in _upstream(one)] for one in upstreams]
    widths = [max(map(_width, column)) for column in zip(names, *rows, strict=True)]

    def line(cells: Sequence[str]) -> list[str]:
        shown = []
        for name, cell, width in zip(names, cells, widths, strict=True):
            space = " " * (width - _width(cell))
            shown.append(space + cell if name in right else cell + space)
        return shown

    print("\n" + "   ".join(line(names)).rstrip())
    print("─" * (sum(widths) + 3 * (len(widths) - 1)))
    for row in rows:
        shown, colour = line(row), _COLOURS.get(row[1])
        if coloured and colour is not None:
            shown[1] = f"\x1b[{colour}m{shown[1]}\x1b[0m"
        print("   ".join(shown).rstrip())
    print()


def _width(text: str) -> int:
    """Cells of a terminal."""
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
    """Print what GET `/admin/tools` answered."""
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
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[str] | set[str] = frozenset()
) -> None:
    """Print a table on stdout, every cell escaped and cut to `MAX_CELL`, and folded where the terminal is narrow."""
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cut(cell)) for cell in row))
    fixed = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    Console(width=fixed, highlight=False).print(table)


def _cut(text: str) -> str:
    text = escape(" ".join(text.split()))
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def duration(seconds: float) -> str:
    """`5 s`, `3 min`, `2 h 5 min`, `4 d 1 h`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
