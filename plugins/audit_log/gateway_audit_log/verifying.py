"""Verifies the chain: finds entries that were changed, removed, added, put elsewhere, and files that were cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway_audit_log.chaining import ZERO, Entry, Keys, is_genuine, read_entry
from gateway_audit_log.reading import Line, lines_of

MAX_FINDINGS: Final = 1000
"""Findings that are kept; more are only counted."""


@dataclass(slots=True)
class Report:
    """What was found."""

    entries: int = 0
    first: int = 0
    last: int = 0
    """Numbers of the first and the last entry."""
    hash: str = ZERO
    """The hash of the last entry."""
    findings: list[str] = field(default_factory=list)
    """What is wrong, each with its place."""
    count: int = 0
    """Number of findings, also of those that were not kept."""
    notes: list[str] = field(default_factory=list)
    """What is unusual, but no sign of a change."""

    def take(self, entry: Entry) -> None:
        """Count an entry, the last one until now."""
        self.first = self.first or entry.seq
        self.entries += 1
        self.last, self.hash = entry.seq, entry.hash

    def cut(self, expected: str) -> None:
        """Add the finding that no entry has the expected hash."""
        self.count += 1
        self.findings.append(f"no entry has the hash {expected}: the end was cut off, or replaced from there on")

    def wrong(self, line: Line, what: str) -> None:
        """Add a finding."""
        self.count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(f"{line.file}:{line.number}: {what}")

    def note(self, line: Line, what: str) -> None:
        """Add a note."""
        if len(self.notes) < MAX_FINDINGS:
            self.notes.append(f"{line.file}:{line.number}: {what}")


class _Verifier:
    def __init__(self, keys: Keys, expected: str) -> None:
        self.report = Report()
        self._keys = keys
        self._expected = expected
        self._found = not expected
        self._before: Entry | None = None
        self._damaged: list[Line] = []
        self._file: Path | None = None
        self._end = 0
        """Where the last whole entry of the file ends."""
        self._runs = False

    def take(self, line: Line) -> None:
        if line.file != self._file:
            self._give_up_damaged()
            self._file, self._end = line.file, 0
        entry = read_entry(line.data) if line.is_whole else None
        if entry is None:
            if line.data:
                self._damaged.append(line)
            return
        self._check_damaged(line, entry)
        self._check(line, entry)
        self._before = entry
        self._end = line.at + len(line.data) + 1
        self.report.take(entry)
        self._found = self._found or entry.hash == self._expected

    def _check_damaged(self, line: Line, entry: Entry) -> None:
        if entry.type != "recovered":
            self._give_up_damaged()
            return
        if line.at - self._end == entry.damaged_bytes + 1:
            self.report.note(line, f"{entry.damaged_bytes} bytes before it are what a crash or a full disk left")
        else:
            self.report.wrong(line, f"says that {entry.damaged_bytes} damaged bytes stand before it, which is not so")
        self._damaged.clear()

    def _give_up_damaged(self) -> None:
        for line in self._damaged:
            what = "is no entry" if line.is_whole else "ends within an entry"
            self.report.wrong(line, f"{what}, and the log does not say why")
        self._damaged.clear()

    def _check(self, line: Line, entry: Entry) -> None:
        report, before = self.report, self._before
        if not is_genuine(line.data, entry, self._keys.chain):
            report.wrong(line, f"entry {entry.seq} was changed: its hash is not that of its content")
        if before is None:
            if entry.seq != 1:
                report.note(line, f"the log begins with entry {entry.seq}; earlier ones are not here")
            elif entry.prev != ZERO:
                report.wrong(line, "the first entry refers to one before it")
        elif entry.seq > before.seq + 1:
            missing = range(before.seq + 1, entry.seq)
            which = f"entry {missing[0]} is" if len(missing) == 1 else f"entries {missing[0]} to {missing[-1]} are"
            report.wrong(line, f"{which} missing before entry {entry.seq}")
        elif entry.seq <= before.seq:
            report.wrong(line, f"entry {entry.seq} stands behind entry {before.seq}: it was moved or added")
        elif entry.prev != before.hash:
            report.wrong(line, f"entry {entry.seq} does not follow from entry {before.seq}: that one was replaced")
        if entry.chain and entry.chain != self._keys.method:
            report.wrong(line, f"the log was begun with {entry.chain}, and is verified with {self._keys.method}")
        if entry.type == "start" and self._runs:
            report.note(line, "the gateway before it did not stop cleanly; its last entries may be missing")
        if entry.type in {"start", "stop"}:
            self._runs = entry.type == "start"

    def end(self) -> Report:
        if self._damaged and not self._damaged[-1].is_whole and len(self._damaged) == 1:
            line = self._damaged.pop()
            self.report.note(line, f"ends with {len(line.data)} bytes of an entry, which a crash or a full disk left")
        self._give_up_damaged()
        if not self._found:
            self.report.cut(self._expected)
        return self.report


def verify(files: Sequence[Path], keys: Keys, expected: str = "") -> Report:
    """Verify the entries of files. `expected`: a hash that one of the entries must have. Raises `OSError`."""
    verifier = _Verifier(keys, expected)
    for line in lines_of(files):
        verifier.take(line)
    return verifier.end()
