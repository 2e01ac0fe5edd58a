"""The tables of a TOML text that have a header, as blocks of lines.

A block goes from its header to its last key. Comments and empty lines below belong to what follows, and stay when a
block is added or removed.
"""

from __future__ import annotations

import re
from typing import Any

from gateway_core.config.report import toml_value
from gateway_core.config.source import Layout, Path, show

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_EMPTY = re.compile(r"[ \t\r\n]*(?:#[^\n]*\n?)?")
"""A line without content."""


def removed(text: str, layout: Layout, path: Path) -> str:
    """The text without the block of `path`, and without the tables inside it."""
    start, end = _span(text, layout, path)
    before, after = text[:start], text[end:]
    if before.endswith(("\n\n", "\n\r\n")) or not before:
        after = re.sub(r"\A[ \t]*\r?\n", "", after)
    return before + after


def added(text: str, layout: Layout, below: Path, header: str, keys: dict[str, Any]) -> str:
    """The text with one more block: below the block of `below`, or at the end if that is empty.

    `header`: with its brackets.
    """
    newline = "\r\n" if "\r\n" in text else "\n"
    at = _span(text, layout, below)[1] if below else len(text)
    lines = (header, *(f"{show((key,))} = {toml_value(value)}" for key, value in keys.items()), "")
    block = "\n".join(lines).replace("\n", newline)
    before = text[:at]
    gap = "" if not before else newline if before.endswith("\n") else 2 * newline
    return before + gap + block + text[at:]


def _span(text: str, layout: Layout, path: Path) -> tuple[int, int]:
    """Where the block of `path` with the tables inside it begins and ends."""
    headers = list(layout.headers.items())
    at = next(number for number, (found, _) in enumerate(headers) if found == path)
    ends = (start for found, start in headers[at + 1 :] if found[: len(path)] != path)
    start, end = headers[at][1], next(ends, len(text))
    lines = _LINE.findall(text, start, end)
    while _EMPTY.fullmatch(lines[-1]):
        lines.pop()
    return start, start + sum(map(len, lines))
