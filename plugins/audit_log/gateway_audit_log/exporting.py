"""Entries as CSV, for spreadsheets."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TextIO

COLUMNS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "seq": lambda entry: entry.get("seq"),
    "time": lambda entry: entry.get("time"),
    "type": lambda entry: entry.get("type"),
    "exchange": lambda entry: entry.get("exchange"),
    "principal": lambda entry: _of(entry, "principal", "id"),
    "verified": lambda entry: _of(entry, "principal", "verified"),
    "address": lambda entry: entry.get("address") or _of(entry, "principal", "address"),
    "era": lambda entry: entry.get("era"),
    "method": lambda entry: entry.get("method"),
    "name": lambda entry: entry.get("name"),
    "upstream": lambda entry: entry.get("upstream"),
    "decision": lambda entry: entry.get("decision"),
    "plugin": lambda entry: entry.get("plugin"),
    "rule": lambda entry: entry.get("rule") or entry.get("reason"),
    "outcome": lambda entry: entry.get("outcome"),
    "code": lambda entry: entry.get("code"),
    "sent": lambda entry: entry.get("sent"),
    "ms": lambda entry: entry.get("ms"),
    "arguments_bytes": lambda entry: _of(entry, "arguments", "bytes"),
    "arguments_digest": lambda entry: _of(entry, "arguments", "digest"),
    "result_bytes": lambda entry: _of(entry, "result", "bytes"),
    "result_digest": lambda entry: _of(entry, "result", "digest"),
    "hash": lambda entry: entry.get("hash"),
}
"""Column -> its value for an entry."""


def write_csv(entries: Iterable[Mapping[str, Any]], to: TextIO) -> int:
    """Write entries as CSV; returns their number."""
    table = csv.writer(to)
    table.writerow(COLUMNS)
    count = 0
    for entry in entries:
        table.writerow([_cell(value(entry)) for value in COLUMNS.values()])
        count += 1
    return count


def _of(entry: Mapping[str, Any], key: str, member: str) -> Any:
    found = entry.get(key)
    return found.get(member) if isinstance(found, dict) else None


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula begins with a quote."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value
