"""Reads the parts of a tool's input schema (JSON Schema) that the command line needs.

Schemas come from upstreams: parts with an unexpected shape are ignored, and references are followed within bounds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

TYPES: Final = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
"""JSON type -> what messages call it."""
_MAX_DEPTH: Final = 3
"""Alternatives inside of each other that are followed."""
_MAX_PARTS: Final = 50
"""References and members of `allOf` that are followed for one schema."""
_MAX_CHOICES: Final = 20
"""Values of an `enum` that are shown."""

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a tool."""

    name: str
    schema: Schema
    """Its schema, with references resolved."""
    required: bool
    types: tuple[str, ...]
    """The JSON types that it may have; empty if the schema does not say."""
    choices: tuple[Any, ...] = ()
    """The only values that it may have; empty if there are others."""

    @property
    def description(self) -> str:
        text = self.schema.get("description") or self.schema.get("title")
        return text if isinstance(text, str) else ""

    @property
    def kind(self) -> str:
        """Its types or choices, for a table: `integer`, `array of string`, `"a" or "b"`."""
        if self.choices:
            return choices_of(self.choices)
        items = self.schema.get("items")
        inner = types_of(items)[1] if isinstance(items, Mapping) else ()
        names = [f"array of {inner[0]}" if name == "array" and len(inner) == 1 else name for name in self.types]
        return " or ".join(names) or "any"


def arguments_of(schema: Any) -> list[Argument]:
    """The arguments that a tool's input schema names; required ones first, otherwise in its order."""
    if not isinstance(schema, Mapping):
        return []
    properties: dict[str, Any] = {}
    required: set[str] = set()
    for part in islice(_parts(schema, schema), _MAX_PARTS):
        named = part.get("properties")
        properties |= {str(name): value for name, value in named.items()} if isinstance(named, Mapping) else {}
        needed = part.get("required")
        required |= {name for name in needed if isinstance(name, str)} if isinstance(needed, list | tuple) else set()
    found = []
    for name, value in properties.items():
        resolved, types, choices = types_of(value, schema)
        found.append(Argument(name, resolved, name in required, types, choices))
    return sorted(found, key=lambda argument: not argument.required)


def is_closed(schema: Any) -> bool:
    """Whether a tool accepts only the arguments that its schema names."""
    return isinstance(schema, Mapping) and schema.get("additionalProperties") is False


def types_of(
    schema: Any, root: Schema | None = None, depth: int = 0
) -> tuple[Schema, tuple[str, ...], tuple[Any, ...]]:
    """(the schema with references resolved, the types that it allows, the values that it allows if they are few)."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return {}, (), ()
    root = schema if root is None else root
    merged: dict[str, Any] = {}
    for part in islice(_parts(schema, root), _MAX_PARTS):
        merged = {**part, **merged}
    if "const" in merged:
        return merged, (type_of(merged["const"]),), (merged["const"],)
    listed = merged.get("enum")
    if isinstance(listed, list | tuple) and listed:
        return merged, tuple(dict.fromkeys(map(type_of, listed))), tuple(listed)
    named = merged.get("type")
    names = [named] if isinstance(named, str) else list(named) if isinstance(named, list | tuple) else []
    types = [name for name in names if name in TYPES]
    choices: list[Any] = []
    open_ended = bool(types)  # a type beside the alternatives allows more than their values
    for alternative in alternatives_of(merged):
        _, inner, values = types_of(alternative, root, depth + 1)
        types += [name for name in inner if name not in types]
        choices += values or ([None] if inner == ("null",) else [])
        open_ended = open_ended or not (values or inner == ("null",))
    if not types and "properties" in merged:
        types.append("object")
    few = not open_ended and any(value is not None for value in choices)
    return merged, tuple(types), tuple(choices) if few else ()


def alternatives_of(schema: Schema) -> list[Any]:
    """The members of `anyOf` and `oneOf`."""
    found = [schema.get(key) for key in ("anyOf", "oneOf")]
    return [one for table in found if isinstance(table, list | tuple) for one in table][:_MAX_CHOICES]


def _parts(schema: Schema, root: Schema, depth: int = 0) -> Iterator[Schema]:
    """The schema itself, what it refers to, and the members of `allOf`."""
    yield schema
    if depth >= _MAX_PARTS:
        return
    target = _resolved(schema.get("$ref"), root)
    if target is not None:
        yield from _parts(target, root, depth + 1)
    together = schema.get("allOf")
    for part in together[:_MAX_CHOICES] if isinstance(together, list | tuple) else ():
        if isinstance(part, Mapping):
            yield from _parts(part, root, depth + 1)


def _resolved(reference: Any, root: Schema) -> Schema | None:
    """The target of a reference inside the same schema, such as `#/$defs/Color`."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def type_of(value: Any) -> str:
    """The JSON type of a value."""
    for kinds, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kinds):
            return name
    if value is None:
        return "null"
    return "array" if isinstance(value, list | tuple) else "object"


def choices_of(values: tuple[Any, ...]) -> str:
    """The allowed values as text: `"a", "b" or 3`."""
    shown = [json.dumps(value, ensure_ascii=False, default=str) for value in values[:_MAX_CHOICES]]
    if len(values) > _MAX_CHOICES:
        shown.append("…")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
