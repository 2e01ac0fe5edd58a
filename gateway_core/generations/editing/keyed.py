"""Changes of single keys of a configuration file in place, with its comments and its layout kept.

A key is dotted and starts below `[mcp.proxy]`: `timeout`, `log.level`, `upstreams.tracker.enabled`. In a list of tables
it names the entry; a name with a dot stands in quotes. Without a key after the name, the change adds, replaces or
removes the entry. tomlkit changes values and keys; `blocks.py` adds and removes whole tables.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final, Protocol, get_origin

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, Item, Table

from gateway_core.config.report import field_of, one_line, section_in
from gateway_core.config.source import Layout, Path, layout_of, show
from gateway_core.config.wording import unknown_key
from gateway_core.errors import ConfigError, FileProblem
from gateway_core.generations.editing import blocks

MAX_CHANGES: Final = 100
"""Changes that are made at once."""
_MAX_KEY: Final = 512
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_PROXY: Final = ("mcp", "proxy")
_KEY: Final = re.compile(rf"{_PART}(?:\.{_PART}){{0,9}}")
_BARE_BREAK: Final = re.compile(r"(?<!\r)\n")
"""A line break that is not one of Windows."""


class Change(Protocol):
    """A new value for a key; None removes the key."""

    @property
    def key(self) -> str: ...
    @property
    def value(self) -> Any: ...


class KeyChange(msgspec.Struct, frozen=True):
    """Implements `Change`."""

    key: str
    value: Any


class _WrongKeyError(Exception):
    """What is wrong with a key."""


_LAYOUT: Final = "cannot be changed in place because of the layout of the file; change its text instead"


def changed(text: str, changes: Sequence[Change], file: str) -> str:
    """The text of a configuration file, which is valid TOML, with changes. `file`: its path, for messages.

    Raises `ConfigError` for keys that lead nowhere, and for a layout in which a change in place is not possible.
    """
    if len(changes) > MAX_CHANGES:
        raise ConfigError([FileProblem(file, None, None, f"at most {MAX_CHANGES} changes are made at once")])
    expected, of_windows = tomllib.loads(text), "\n" in text and not _BARE_BREAK.search(text)
    for change in changes:
        try:
            path, value = _resolved(expected, _parts(change.key), change.value)
            text = _edited(text, path, value)
            _set_plain(expected, path, value)
            if tomllib.loads(text) != expected:
                raise _WrongKeyError(_LAYOUT)
        except _WrongKeyError as error:
            raise ConfigError([_problem(file, change, str(error))]) from None
        except (TOMLKitError, ValueError, LookupError, RecursionError):
            raise ConfigError([_problem(file, change, _LAYOUT)]) from None
    return _BARE_BREAK.sub("\r\n", text) if of_windows else text


def value_of(text: str, key: str, file: str) -> Any:
    """The value of a key in a text that is valid TOML; None if it has none. Raises `ConfigError` as `changed`."""
    raw = tomllib.loads(text)
    try:
        return _value(raw, _resolved(raw, _parts(key), None)[0])
    except _WrongKeyError as error:
        raise ConfigError([_problem(file, KeyChange(key, None), str(error))]) from None


def _problem(file: str, change: Change, what: str) -> FileProblem:
    return FileProblem(file, None, f"mcp.proxy.{one_line(change.key[:_MAX_KEY])}", what)


# -- where a key leads --------------------------------------------------------------------------------------------


def _parts(key: str) -> list[str]:
    """The parts of a dotted key."""
    if len(key) > _MAX_KEY or not _KEY.fullmatch(key):
        raise _WrongKeyError('is no key; write it as timeout, log.level or upstreams."a.name".enabled')
    try:
        value: Any = tomllib.loads(f"{key} = 0")
    except ValueError:
        raise _WrongKeyError("is no key of TOML") from None
    found = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        found.append(part)
    return found


def _resolved(raw: dict[str, Any], parts: Sequence[str], value: Any) -> tuple[Path, Any]:
    """The path of a key, and the value for it. A new entry of a list gets the next index, and every entry its name."""
    path: Path = ()
    at: Any = raw
    last = len(parts) + 1
    _check(value)
    for number, part in enumerate(("mcp", "proxy", *parts)):
        name = name_key(path)
        if name is None:
            if at is not None and not isinstance(at, dict):
                raise _WrongKeyError("leads into a value that is no table")
            path, at = (*path, part), None if at is None else at.get(part)
            continue
        entries = at if isinstance(at, list) else []
        found = [index for index, one in enumerate(entries) if isinstance(one, dict) and one.get(name) == part]
        if len(found) > 1 or (not found and (number < last or value is None)):
            having = f"{len(found)} entries" if found else "no entry"
            raise _WrongKeyError(f"the file has {having} with the {name} {part[:64]!r}")
        path, at = (*path, found[0] if found else len(entries)), entries[found[0]] if found else None
        if number == last and value is not None:
            if not isinstance(value, dict) or value.get(name, part) != part:
                raise _WrongKeyError(f'must be a table, in which {name} is "{part[:64]}" or missing')
            value = {name: part, **value}
    if value is None and at is None and field_of(path) is None:
        raise _WrongKeyError(_unknown(path))
    return path, value


def _unknown(path: Path) -> str:
    """What is wrong with a path that leads to no key: its first part that the table before it does not have."""
    at = next(size for size in range(1, len(path) + 1) if field_of(path[:size]) is None)
    table = field_of(path[: at - 1])
    model = None if table is None else section_in(table.annotation)
    unknown = str(path[at - 1])
    what = unknown_key(unknown, model.file_keys() if model is not None else ())
    return what if at == len(path) else f"leads into {one_line(unknown[:_MAX_KEY])}, which {what}"


def _check(value: Any) -> None:
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if part is None:
            raise _WrongKeyError("has a null inside; TOML has none, so leave the key out")
        _check(part)


def name_key(path: Path) -> str | None:
    """The key by which the entries of a list of tables are named; None for another path."""
    field = field_of(path) if path and not isinstance(path[-1], int) else None
    section = None if field is None else section_in(field.annotation)
    if field is None or section is None or get_origin(field.annotation) is not tuple:
        return None
    return "tool" if "tool" in section.model_fields else "name"


# -- the change ---------------------------------------------------------------------------------------------------


def _value(raw: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for part in path:
        inside = isinstance(raw, dict) if isinstance(part, str) else isinstance(raw, list)
        if not inside or (part not in raw if isinstance(part, str) else part >= len(raw)):
            return None
        raw = raw[part]
    return raw


def _edited(text: str, path: Path, value: Any) -> str:
    """The text with another value at a path."""
    raw, layout = tomllib.loads(text), layout_of(text)
    known = _value(raw, path)
    if value is None:
        return text if known is None else _without(text, layout, path, known)
    if isinstance(value, dict) and path in layout.headers:
        for key in [*value, *(key for key in known if key not in value)]:
            text = _edited(text, (*path, key), value.get(key))
        return text
    if known is None:
        return _with_new(text, raw, layout, path, value)
    return _with_tomlkit(text, path, value)


def _without(text: str, layout: Layout, path: Path, known: Any) -> str:
    """The text without a value."""
    if path in layout.headers:
        return blocks.removed(text, layout, path)
    if not (isinstance(known, list) and (*path, 0) in layout.headers):
        return _with_tomlkit(text, path, None)
    for index in reversed(range(len(known))):
        text = blocks.removed(text, layout_of(text), (*path, index))
    return text


def _with_new(text: str, raw: Any, layout: Layout, path: Path, value: Any) -> str:
    """The text with a value at a path that has none, and with the table for it if there is none."""
    parent, headers = path[:-1], layout.headers
    others = _value(raw, parent)
    if isinstance(path[-1], int):
        if others and (*parent, 0) not in headers:
            return _with_tomlkit(text, path, value)
        below = (*parent, path[-1] - 1) if others else parent[:-1]
        return blocks.added(text, layout, below if below in headers else (), f"[[{_header(parent)}]]", value)
    if others is not None:
        return _with_tomlkit(text, path, value)
    outer = parent[:-1]
    if _value(raw, outer) is None:
        raise _WrongKeyError("leads to a table that the file does not have")
    if outer not in headers and outer != _PROXY:
        return _with_tomlkit(text, parent, {path[-1]: value})
    return blocks.added(text, layout, outer if outer in headers else (), f"[{_header(parent)}]", {path[-1]: value})


def _header(path: Path) -> str:
    return show(tuple(part for part in path if isinstance(part, str)))


def _set_plain(raw: Any, path: Path, value: Any) -> None:
    """Make the same change in a decoded file."""
    for part, following in pairwise(path):
        if isinstance(part, str):
            if part not in raw and value is None:
                return
            raw = raw.setdefault(part, [] if isinstance(following, int) else {})
        else:
            raw = raw[part]
    last: Any = path[-1]
    if value is not None and isinstance(raw, list) and last == len(raw):
        raw.append(deepcopy(value))
    elif value is not None:
        raw[last] = deepcopy(value)
    elif isinstance(raw, list) or last in raw:
        del raw[last]


def _with_tomlkit(text: str, path: Path, value: Any) -> str:
    document = tomlkit.parse(text)
    table: Any = document
    for part in path[:-1]:
        table = table[part]
    last: Any = path[-1]
    if value is None:
        del table[last]
    elif isinstance(table, Array) and last == len(table):
        table.append(_item(value))
    elif isinstance(table, Table) and last not in table:
        _append(table, last, _item(value))
    else:
        table[last] = _item(value)
    return tomlkit.dumps(document)


def _append(table: Table, key: str, item: Item) -> None:
    """Add a key below the last key of a table, above the comments that belong to what follows."""
    keys = [known for known, found in table.value.body if known is not None and not isinstance(found, Table | AoT)]
    if keys:
        table.value._insert_after(keys[-1], key, item)
    else:
        table[key] = item


def _item(value: Any) -> Item:
    """A value for tomlkit; a table is written in one line."""
    if not isinstance(value, dict):
        item: Item = tomlkit.item(value)
        return item
    found = tomlkit.inline_table()
    for name, inner in value.items():
        found.append(name, _item(inner))
    return found
