"""Makes a `rad mcp proxy call` line from a tool's schema: with values that the schema accepts, ready to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from gateway_core.cli.hints import command
from gateway_core.cli.tools.schema import Schema, alternatives_of, arguments_of, types_of

_FORMATS: Final = {
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "email": "me@example.com",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "hostname": "example.com",
}
_MAX_DEPTH: Final = 3
"""Objects and lists inside of each other that get contents."""
_MAX_ITEMS: Final = 8
_MAX_MEMBERS: Final = 20


def call_line(name: str, schema: Any, profile: str = "") -> str:
    """The command that calls the tool with its required arguments. `profile`: the one that shows the tool so."""
    words = [] if name.startswith("-") else [shlex.quote(name)]
    for argument in arguments_of(schema):
        if argument.required:
            value = sample(argument.schema, schema)
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            words.append(f"--arg {shlex.quote(f'{argument.name}={text}')}")
    if profile:
        words.append(f"--profile {shlex.quote(profile)}")
    if name.startswith("-"):
        words.append(f"-- {shlex.quote(name)}")
    return command(f"call {' '.join(words)}")


def sample(schema: Any, root: Schema, depth: int = 0) -> Any:
    """A value that the schema accepts, except for patterns and conditions."""
    resolved, types, choices = types_of(schema, root)
    if choices:
        return choices[0]
    examples = resolved.get("examples")
    for given in (*(examples[:1] if isinstance(examples, list | tuple) else ()), resolved.get("default")):
        if given is not None:
            return given
    kind = next((name for name in types if name != "null"), types[0] if types else "string")
    return _sample_of(kind, _alternative(resolved, root, kind), root, depth)


def _sample_of(kind: str, schema: Schema, root: Schema, depth: int) -> Any:
    value: Any = None
    if kind == "object":
        value = _object(schema, root, depth)
    elif kind == "array":
        length = min(int(_number(schema, "minItems", 0)) or 1, _MAX_ITEMS)
        value = [] if depth >= _MAX_DEPTH else [sample(schema.get("items"), root, depth + 1)] * length
    elif kind in ("integer", "number"):
        value = _sample_number(schema, whole=kind == "integer")
    elif kind == "boolean":
        value = True
    elif kind == "string":
        value = _sample_text(schema)
    return value


def _alternative(schema: Schema, root: Schema, kind: str) -> Schema:
    """The alternative of `anyOf` or `oneOf` that has the type, or the schema itself."""
    for alternative in alternatives_of(schema):
        resolved, types, _ = types_of(alternative, root)
        if kind in types:
            return resolved
    return schema


def _object(schema: Schema, root: Schema, depth: int) -> dict[str, Any]:
    if depth >= _MAX_DEPTH:
        return {}
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
        return {}
    return {name: sample(properties[name], root, depth + 1) for name in required[:_MAX_MEMBERS] if name in properties}


def _sample_number(schema: Schema, *, whole: bool) -> int | float:
    lowest = _number(schema, "minimum", _number(schema, "exclusiveMinimum", None, step=1))
    highest = _number(schema, "maximum", _number(schema, "exclusiveMaximum", None, step=-1))
    value = 1 if lowest is None or lowest <= 1 else lowest
    if highest is not None and value > highest:
        value = highest
    return int(value) if whole else value


def _sample_text(schema: Schema) -> str:
    text = _FORMATS.get(str(schema.get("format")), "text")
    shortest, longest = _number(schema, "minLength", 0), _number(schema, "maxLength", None)
    if len(text) < (shortest or 0) <= 1000:
        text = text.ljust(int(shortest or 0), "x")
    return text if longest is None or longest < 0 else text[: int(longest)]


def _number(schema: Schema, key: str, default: Any, step: int = 0) -> Any:
    value = schema.get(key)
    return value + step if isinstance(value, int | float) and not isinstance(value, bool) else default
