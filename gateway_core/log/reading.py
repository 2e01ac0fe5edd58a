"""Reads log lines that the gateway has written, in either format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from gateway_core.log.recent import Recent
from gateway_core.patterns import compiled

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
"""Least severe first."""
_TEXT: Final = compiled(
    r"(?s)^(\S+) (?:\x1b\[[0-9;]*m)?([A-Z]+) *(?:\x1b\[0m)? (.*?)"
    r"((?: [A-Za-z_][A-Za-z0-9_.-]*=(?:\"(?:[^\"\\]|\\.)*\"|[^\s\"=]+))*)$"
)
"""Time, level, message and fields of a text line; RE2, because others write the message."""
_FIELD: Final = re.compile(r' ([A-Za-z_][A-Za-z0-9_.-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_ESCAPED: Final = re.compile(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|.)")
_SHORT: Final = {"n": "\n", "t": "\t", "r": "\r"}


class LogLine(NamedTuple):
    """One line of the log."""

    seq: int
    """Counts up, also across restarts."""
    at: float
    """Seconds since the epoch; 0 for a line that is not one of the gateway."""
    level: str
    text: str
    """The message."""
    fields: Mapping[str, Any]


class Excerpt(NamedTuple):
    """Lines of the log, oldest first."""

    lines: list[LogLine]
    last: int
    """The number of the line up to which was searched: `after` for the next lines."""
    missed: int
    """How many lines after `after` are not kept any more."""


def excerpt(recent: Recent, after: int, limit: int, admits: Callable[[LogLine], bool]) -> Excerpt:
    """The latest lines that `admits` accepts, or with `after` the first ones after that number; `limit` at most."""
    found: list[LogLine] = []
    last, missed = recent.last, recent.missed(after) if after else 0
    for seq, line in recent.forwards(after) if after else recent.backwards():
        if len(found) >= limit:
            break
        if admits(one := parsed(seq, line.decode("utf-8", "replace"))):
            found.append(one)
    if not after:
        found.reverse()
    full = after and len(found) >= limit
    return Excerpt(found, found[-1].seq if full else max(last, found[-1].seq if found else after), missed)


def parsed(seq: int, line: str) -> LogLine:
    """The parts of a line, in either format of the log."""
    return _of_json(seq, line) if line.startswith("{") else _of_text(seq, line)


def _of_json(seq: int, line: str) -> LogLine:
    try:
        members = json.loads(line)
        if "\\ud" in line:  # half a surrogate pair, which the log escapes, cannot be sent
            members = json.loads(json.dumps(members, ensure_ascii=False).encode(errors="replace"))
        at = datetime.fromisoformat(members.pop("time")).timestamp()
        level, text = members.pop("level"), members.pop("message")
    except (ValueError, KeyError, TypeError, RecursionError):
        return LogLine(seq, 0.0, "INFO", line, {})
    return LogLine(seq, at, str(level), str(text), members)


def _of_text(seq: int, line: str) -> LogLine:
    found = _TEXT.match(line)
    try:
        at = datetime.fromisoformat(found[1]).timestamp() if found is not None else 0.0
    except ValueError:
        found = None
    if found is None or found[2] not in LEVELS:
        return LogLine(seq, 0.0, "INFO", line, {})
    fields = {name: word or _ESCAPED.sub(_unescaped, quoted) for name, quoted, word in _FIELD.findall(found[4])}
    return LogLine(seq, at, found[2], found[3], fields)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 1:
        return _SHORT.get(code, code)
    char = int(code[1:], 16)
    return "?" if 0xD800 <= char <= 0xDFFF else chr(char)
