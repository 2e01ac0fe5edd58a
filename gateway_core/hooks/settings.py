"""Checks the settings of plugins, and reports what is wrong with file and line.

Messages never contain the values of settings, because any value may be a secret.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from gateway_core.api import PluginConfig
from gateway_core.api.plugin import FOLDER
from gateway_core.config import PluginEntry
from gateway_core.errors import FileProblem, PluginError

SettingsT = TypeVar("SettingsT", bound=PluginConfig)


@dataclass(frozen=True, slots=True)
class EntryReport:
    """Collects the problems of one plugin entry."""

    problems: list[FileProblem]
    source: str
    index: int
    """The place of the entry in the file."""
    entry: PluginEntry

    def __call__(self, what: str, key: str = "") -> None:
        """`key`: dotted path of the invalid setting, if any; the message gives its line."""
        setting, place = key, f"mcp.proxy.plugins[{self.index}]"
        line = self.entry.key_lines.get(key)
        while line is None and key:  # an inline table or a missing key has no line; use its parent's
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
            line = self.entry.key_lines.get(key)
        line = self.entry.line if line is None else line
        full_key = place + (f".{setting}" if setting else "")
        shown = f"{place} ({self.entry.name})"
        self.problems.append(FileProblem(self.source, line, full_key, what, shown_key=shown))


def settings_of(model: type[SettingsT], entry: PluginEntry, index: int, source: str) -> SettingsT:
    """The settings of one entry, enabled or not, for a command of its plugin.

    `index`: the place of the entry in the file. Raises `PluginError` with all problems.
    """
    problems: list[FileProblem] = []
    found = validated(model, entry, EntryReport(problems, source, index, entry))
    if found is None:
        raise PluginError("\n".join(problems), problems)
    return found


def validated(model: type[SettingsT], entry: PluginEntry, report: EntryReport) -> SettingsT | None:
    """The settings of an entry; None if they are wrong, which is reported."""
    try:
        return model.model_validate(entry.settings, context={FOLDER: Path(report.source).absolute().parent})
    except ValidationError as invalid:
        known = [field.alias or name for name, field in model.model_fields.items()]
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])[1:]
            advice = _advice(error, known, model, source_of(entry, path))
            report(f"{path}: {advice}" if path else advice, path)
    except BaseException as error:  # noqa: BLE001 - a validator can raise anything
        report(f"its settings cannot be checked: {type(error).__name__}")
    return None


def source_of(entry: PluginEntry, path: str) -> str:
    """Where a setting, or a part of it, came from; empty if it stands in the file."""
    inside = re.compile(rf"{re.escape(path)}($|[.\[])" if path else "")
    return " and ".join(dict.fromkeys(source for key, source in entry.sources.items() if inside.match(key)))


def _advice(error: Any, known: list[str], model: type[PluginConfig], source: str) -> str:
    """What is wrong and what to do. `source`: where the value came from, if from `${…}`; it is then never shown."""
    key = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown setting; {hint}{'it has ' + ', '.join(known) if known else 'this plugin has no settings'}"
    field = model.model_fields.get(key)
    meaning = f" ({field.description})" if field is not None and field.description else ""
    if error["type"] == "missing":
        return f"is required{meaning}; add it"
    if not source:
        return f"{error['msg'].removeprefix('Value error, ')}{meaning}"
    # Only the texts of pydantic's own errors are known to show no value.
    own = error["type"] in get_args(ErrorType) and error["type"] not in {"value_error", "assertion_error"}
    return f"{error['msg'] if own else 'is not valid'}{meaning} (the value comes from {source})"
