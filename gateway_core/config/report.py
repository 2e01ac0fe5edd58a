"""Problems in a file, as sentences that say what is wrong and what would be right.

A `Problem` is a path and a sentence. It shows a value only if that cannot be secret: numbers, booleans, and short texts
of keys whose values are names or choices. No message shows a value from `${…}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args, get_origin

import tomli_w
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway_core.config.models import FileTable
from gateway_core.config.sections import Section
from gateway_core.config.source import Path, show
from gateway_core.config.wording import (
    BOUNDS,
    bounds_of,
    choices_of,
    close_choice,
    one_of,
    type_found,
    type_wanted,
    unknown_key,
)

_SECRET_KEY = re.compile(r"secret|token|password|passwd|api[_-]?key|authorization|credential", re.IGNORECASE)
_SECRET_TABLES: Final = frozenset({"env", "headers", "args", "auth", "settings"})
_SHOWN_TEXTS: Final = frozenset({"name", "separator", "host", "group", "redact_patterns", "allowed_hosts"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One error in the file. `message` is one sentence without the path."""

    path: Path
    message: str
    unset: bool = False
    """Whether only the value of a variable or a file is missing."""


def from_pydantic(error: ErrorDetails, sources: Mapping[Path, str]) -> Problem:
    """Turn an error of pydantic into a problem. `sources`: where values from `${…}` came from, in words, by path."""
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    message = _message(error, path, secret=path in sources)
    source = sources.get(path)
    return Problem(path, f"{message} (the value comes from {source})" if source else message)


def _message(error: ErrorDetails, path: Path, *, secret: bool) -> str:
    field = field_of(path)
    value = error.get("input")
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "missing":
        return f"is required{_example(path, field)}"
    if kind == "rule":
        context = error.get("ctx", {})
        detail = context.get("detail") if not secret else ""
        found = "" if secret or not _shown_text(path, field) else f"; found {found_value(path, value)}"
        return f"{context['message']}{f': {one_line(detail)}' if detail else found}"
    if kind == "literal_error" and field is not None:
        return _not_a_choice(path, field, value, secret)
    if kind in BOUNDS and field is not None:
        found = "" if secret else f", but is {found_value(path, value)}"
        return f"must be {bounds_of(field)}{found}{_example(path, field)}"
    found = type_found(value) if secret else found_value(path, value)
    return f"must be {type_wanted(kind) or 'something else'}, but is {found}{_example(path, field)}"


def wrong_type(path: Path, kind: str, source: str) -> Problem:
    """The problem of a text from `${…}` that is no value of the key's type. `kind`: the type of pydantic's error."""
    wanted = type_wanted(kind)
    return Problem(
        path, f"must be {wanted}, but the value of {source} is something else{_example(path, field_of(path))}"
    )


def found_value(path: Path, value: Any) -> str:
    """The value if it cannot be secret, else its TOML type."""
    if any(isinstance(part, str) and (part in _SECRET_TABLES or _SECRET_KEY.search(part)) for part in path):
        return type_found(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and len(str(value)) <= 30:
        return str(value)
    if isinstance(value, str) and len(value) <= 60 and _shown_text(path, field_of(path)):
        return f'the text "{one_line(value)}"'
    return type_found(value)


def one_line(text: str) -> str:
    """`text` without characters that would break a line or a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def field_of(path: Path) -> FieldInfo | None:
    """The model field of a path; for an element of a list or free table, the field of that. None if unknown."""
    model: type[Section] | None = FileTable
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int) or model is None:
            continue
        field = model.model_fields.get(part)
        if field is None:
            return None
        model = section_in(field.annotation)
    return field


def section_in(annotation: Any) -> type[Section] | None:
    """The model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, Section) else None
    return next((found for inner in get_args(annotation) if (found := section_in(inner))), None)


def sections(model: type[Section] = FileTable, prefix: str = "") -> Iterator[tuple[str, type[Section]]]:
    """Yield every table of the file with its header in TOML: `[mcp.proxy]`, `[[mcp.proxy.upstreams]]`, …"""
    for key, field in model.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None:
            continue
        name = f"{prefix}.{key}" if prefix else key
        yield (f"[[{name}]]" if get_origin(field.annotation) is tuple else f"[{name}]"), inner
        yield from sections(inner, name)


@cache
def _homes() -> dict[str, list[str]]:
    """Key -> headers of the tables that may contain it."""
    homes: dict[str, list[str]] = {}
    for header, model in sections():
        for key in model.file_keys():
            homes.setdefault(key, []).append(header)
    return homes


def _unknown_key(path: Path) -> str:
    key = str(path[-1])
    parent = field_of(path[:-1])
    model = (section_in(parent.annotation) if parent else None) or FileTable
    if homes := _homes().get(key):
        return f"is not a key of this table; it belongs in {' or '.join(homes)}"
    known = model.file_keys()
    return unknown_key(key, known)


def _not_a_choice(path: Path, field: FieldInfo, value: Any, secret: bool) -> str:
    choices = choices_of(field.annotation)
    message = f"must be {one_of(choices)}"
    return message if secret else f"{message}, but is {found_value(path, value)}{close_choice(value, choices)}"


def _shown_text(path: Path, field: FieldInfo | None) -> bool:
    if field is None or not path:
        return False
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    return key in _SHOWN_TEXTS or field.annotation in (int, float, bool) or bool(choices_of(field.annotation))


def example_of(key: str, field: FieldInfo) -> str:
    """`key = value` in TOML, from the field's example or its default; empty if it has neither."""
    value = field.examples[0] if field.examples else field.default
    if isinstance(value, tuple):
        value = list(value)
    if not isinstance(value, bool | int | float | str | list | dict) or value in ([], {}):
        return ""
    return f"{key} = {toml_value(value)}"


def toml_value(value: Any) -> str:
    """A value in one line of TOML."""
    if isinstance(value, dict):
        inner = ", ".join(tomli_w.dumps({key: item}).strip() for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return tomli_w.dumps({"k": value}).strip().removeprefix("k = ")


def _example(path: Path, field: FieldInfo | None) -> str:
    """`; for example: …`, or for a table the header to write; empty without an example."""
    if field is None:
        return ""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    section = section_in(field.annotation)
    if section is not None:
        header = next(header for header, model in sections() if model is section)
        return f"; write its keys below {header}"
    if get_origin(field.annotation) is dict and path[-1] != key_of(field, path):
        return f'; for example: {show((path[-1],))} = "text"'
    example = example_of(key, field)
    return f"; for example: {example}" if example else ""


def key_of(field: FieldInfo, path: Path) -> str | int:
    """The last part of `path` that names `field` itself; what follows are keys of a free table or indexes."""
    while len(path) > 1 and field_of(path[:-1]) is field:
        path = path[:-1]
    return path[-1]
