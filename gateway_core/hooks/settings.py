"""Checks the settings of plugins, and reports what is wrong with file and line.

Messages never contain the values of settings, because any value may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from gateway_core.api import PluginConfig
from gateway_core.api.plugin import FOLDER
from gateway_core.config import PluginEntry
from gateway_core.config.placeholders.conversion import convert
from gateway_core.config.source import show
from gateway_core.config.wording import (
    BOUNDS,
    bounds_of,
    choices_of,
    close_choice,
    length_wanted,
    type_found,
    wanted,
)
from gateway_core.errors import FileProblem, PluginError
from gateway_core.hooks.places import Loc, Place, keys_of, place_of

SettingsT = TypeVar("SettingsT", bound=PluginConfig)


class _Error(NamedTuple):
    place: Place
    details: ErrorDetails


class EntryReport(msgspec.Struct, frozen=True):
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
    context = {FOLDER: Path(report.source).absolute().parent}
    try:
        try:
            return model.model_validate(entry.settings, context=context)
        except ValidationError as invalid:
            if not entry.sources:
                raise
            return model.model_validate(_converted(model, entry, invalid), context=context)
    except ValidationError as invalid:
        for (path, _), errors in _by_place(model, invalid).items():
            shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]
            advice = _advice(errors, source_of(entry, shown))
            report(f"{shown}: {advice}" if shown else advice, shown)
    except BaseException as error:  # noqa: BLE001 - a validator can raise anything
        report(f"its settings cannot be checked: {type(error).__name__}")
    return None


def _converted(model: type[PluginConfig], entry: PluginEntry, invalid: ValidationError) -> dict[str, Any]:
    """The settings of an entry with numbers and booleans where `${…}` gave a text and the model wants these."""
    settings = deepcopy(entry.settings)
    sources: dict[Loc, str] = {}
    errors: list[ErrorDetails] = []
    for details in invalid.errors(include_url=False):
        path = place_of(model, details["loc"], is_unknown=details["type"] == "extra_forbidden").path
        source = entry.sources.get(show(path))
        if source is not None:
            sources[path] = source
            errors.append({**details, "loc": path})
    convert(settings, errors, set(sources), sources)
    return settings


def source_of(entry: PluginEntry, path: str) -> str:
    """Where a setting, or a part of it, came from; empty if it stands in the file."""
    inside = re.compile(rf"{re.escape(path)}($|[.\[])" if path else "")
    return " and ".join(dict.fromkeys(source for key, source in entry.sources.items() if inside.match(key)))


def _by_place(model: type[PluginConfig], invalid: ValidationError) -> Mapping[tuple[Loc, bool], list[_Error]]:
    """The errors by the path of the setting and whether its name is wrong.

    There are several for a setting that may have different types.
    """
    found: dict[tuple[Loc, bool], list[_Error]] = {}
    for details in invalid.errors(include_url=False):
        place = place_of(model, details["loc"], is_unknown=details["type"] == "extra_forbidden")
        found.setdefault((place.path, place.is_name), []).append(_Error(place, details))
    # A list whose only element is wrong is not too short as well.
    inner = {path[:length] for path, _ in found for length in range(len(path))}
    return {
        key: errors for key, errors in found.items() if key[0] not in inner or errors[0].details["type"] != "too_short"
    }


def _advice(errors: Sequence[_Error], source: str) -> str:
    """What is wrong with a setting, and what to do. `source`: where its value came from, if from `${…}`."""
    place, details = errors[0].place, errors[0].details
    kind = details["type"]
    if kind == "extra_forbidden":
        known = [key for table in place.tables for key in keys_of(table)]
        close = difflib.get_close_matches(str(place.path[-1]), known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        nothing = "it has no settings" if len(place.path) > 1 else "this plugin has no settings"
        return f"unknown setting; {hint}{'it has ' + ', '.join(known) if known else nothing}"
    meaning = f" ({place.field.description})" if place.field is not None and place.field.description else ""
    if kind == "missing":
        return f"is required{meaning}; add it"
    message = _message(errors, source)
    name = "its name " if place.is_name else ""
    return f"{name}{message}{meaning}{f' (the value comes from {source})' if source else ''}"


def _message(errors: Sequence[_Error], source: str) -> str:
    """What is wrong, without the value."""
    details, place = errors[0].details, errors[0].place
    wishes = [_wish(it) for it in errors]
    if None in wishes:
        return length_wanted(details["type"], details.get("ctx", {})) or _own_words(details, source)
    kinds = {it.details["type"] for it in errors}
    if len(errors) > 1:
        *others, last = dict.fromkeys(wish.removeprefix("one of ") for wish in wishes if wish is not None)
        message = f"must be {', '.join(others)}{' or ' if others else ''}{last}"
    else:
        message = f"must be {wishes[0]}"
    if source or not kinds.isdisjoint(BOUNDS):
        return message
    if kinds == {"literal_error"}:
        return f"{message}{close_choice(details['input'], choices_of(place.annotation))}"
    return f"{message}, but is {type_found(details['input'])}"


def _wish(error: _Error) -> str | None:
    """What a value must be, in words; None if only the error itself says it."""
    details, place = error.details, error.place
    found = wanted(details["type"], details.get("ctx", {}), place.annotation)
    if found is None or details["type"] not in BOUNDS:
        return found
    whole = bounds_of(place.field) if place.field is not None and isinstance(place.path[-1], str) else ""
    return whole or f"a number {found}"


def _own_words(details: ErrorDetails, source: str) -> str:
    """The text of an error. Only the texts of pydantic's own errors are known to show no value."""
    kind = details["type"]
    if source and (kind not in get_args(ErrorType) or kind in {"value_error", "assertion_error"}):
        return "is not valid"
    return details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
