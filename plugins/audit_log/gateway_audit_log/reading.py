"""Reads entries: of one file or of a whole log, filtered, and as they are added."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from gateway_audit_log.chaining import MAX_LINE
from gateway_audit_log.journal import older_files
from gateway_core import Globs

POLL: Final = 0.3
"""Seconds between two looks at a file that is followed."""
_AGO: Final = re.compile(r"(\d+)([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_ANY: Final = Globs()
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Line(NamedTuple):
    """One line of a file."""

    file: Path
    number: int
    at: int
    """Where it begins in its file."""
    data: bytes
    """Without its newline."""
    is_whole: bool
    """Whether a newline follows it."""


def files_of(path: Path) -> list[Path]:
    """The files of a log in the order of their entries: the older ones, then the file itself if there is one."""
    found = older_files(path)
    return [*found, path] if path.exists() else found


def lines_of(files: Sequence[Path]) -> Iterator[Line]:
    """The lines of files. A line longer than an entry comes in pieces. Raises `OSError`."""
    for path in files:
        with path.open("rb") as file:
            number, at = 0, 0
            while data := file.readline(MAX_LINE + 1):
                number += 1
                yield Line(path, number, at, data.removesuffix(b"\n"), data.endswith(b"\n"))
                at += len(data)


def entries_of(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The entries of files, without damaged lines."""
    for line in lines_of(files):
        entry = entry_of(line.data)
        if entry is not None:
            yield entry


def entry_of(data: bytes) -> dict[str, Any] | None:
    """The entry of a line; None if the line is damaged."""
    try:
        entry = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return entry if isinstance(entry.get("type"), str) and isinstance(entry.get("seq"), int) else None


def end_of(path: Path) -> int:
    """Where the last line of a file begins that is not whole yet; its size if there is none. Raises `OSError`."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - MAX_LINE)
        file.seek(start)
        return start + file.read(size - start).rfind(b"\n") + 1


def followed(path: Path, at: int, after: int = 0) -> Iterator[dict[str, Any]]:
    """The entries from position `at` of the file with numbers above `after`, as they are added. Never ends.

    Goes on with the file that follows this one. Raises `OSError`.
    """
    file = path.open("rb")
    file.seek(at)
    rest = b""
    try:
        while True:
            is_last = _was_replaced(path, file.fileno())  # before the read, so that nothing follows it
            data = file.read(MAX_LINE)
            if data:
                *lines, rest = (rest + data).split(b"\n")
                yield from (one for one in filter(None, map(entry_of, lines)) if one["seq"] > after)
                rest = rest[-MAX_LINE:]
            elif is_last:
                file.close()
                file, rest = path.open("rb"), b""
            else:
                time.sleep(POLL)
    finally:
        file.close()


def _was_replaced(path: Path, descriptor: int) -> bool:
    try:
        return os.stat(path).st_ino != os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries to show: globs, of which an empty list admits any value, and times."""

    principal: Globs = _ANY
    tool: Globs = _ANY
    upstream: Globs = _ANY
    outcome: Globs = _ANY
    decision: Globs = _ANY
    since: str = ""
    until: str = ""

    def admits(self, entry: Mapping[str, Any]) -> bool:
        """Whether to show an entry. With any condition other than a time, only calls and authentications are shown."""
        moment = str(entry.get("time", ""))
        if (self.since and moment < self.since) or (self.until and moment >= self.until):
            return False
        given = entry.get("principal")
        principal: Mapping[str, Any] = given if isinstance(given, dict) else {}
        facts = entry.get("served")
        served: Mapping[str, Any] = facts if isinstance(facts, dict) else {}
        tested = (
            (self.principal, (principal.get("id"), principal.get("subject"))),
            (self.tool, (entry.get("name"), served.get("tool"), served.get("original"))),
            (self.upstream, (entry.get("upstream"),)),
            (self.outcome, (entry.get("outcome"),)),
            (self.decision, (entry.get("decision"),)),
        )
        return all(not globs or _any_matches(globs, values) for globs, values in tested)


def _any_matches(globs: Globs, values: Sequence[object]) -> bool:
    return any(isinstance(value, str) and globs.matches(value) for value in values)


def moment_of(text: str) -> str:
    """A time as entries have it, of an ISO time (UTC without a zone) or of one in the past: 90s, 15m, 2h, 7d.

    Raises `ValueError`.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        found = datetime.fromtimestamp(time.time() - int(ago[1]) * _SECONDS[ago[2]], UTC)
    else:
        found = datetime.fromisoformat(text)
        found = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).astimezone(UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%S.") + f"{found.microsecond // 1000:03d}Z"


def seconds_of(text: str) -> float:
    """The seconds since the epoch of a time as entries have it. Raises `ValueError`."""
    return datetime.fromisoformat(text).timestamp()
