"""Checks that validators can compile a JSON schema: valid keyword values, and references to schemas inside it.

The TypeScript SDK 1.x compiles every output schema with Ajv right after listing the tools, and rejects the whole list
if one does not compile. The rules here are those of Ajv (draft 7, not strict), and slightly stricter where an exact
check would be complex.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

MAX_NODES: Final = 10_000
"""Maximum number of subschemas; a schema with more is treated as not compilable."""
MAX_POINTER: Final = 1000
"""Maximum characters of a reference or a pattern."""
_TYPES: Final = frozenset(["array", "boolean", "integer", "null", "number", "object", "string"])
_ESCAPE: Final = re.compile(
    r"\\(?:[dDwWsSbBnrtfv0-9^$\\.*+?()\[\]{}|/-]|[pP]\{\w+(?:=\w+)?\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})"
)
_CLASS: Final = re.compile(r"\[\^?[^\[\]\\]*\]")
_COUNT: Final = re.compile(r"(?<=[^(|])\{\d{1,4}(?:,\d{0,4})?\}")
_NOT_IN_JAVASCRIPT: Final = re.compile(r"[\\{}\]]|\(\?(?!:|=|!|<=|<!|<[A-Za-z_]\w*>)|[*+?]\+")


def compiles(schema: Any) -> bool:
    """Whether every validator can compile a decoded schema. Runs in linear time."""
    pending, looked_at = [schema], 0
    while pending:
        node = pending.pop()
        looked_at += 1
        if isinstance(node, bool):
            continue
        if looked_at > MAX_NODES or not isinstance(node, dict) or not _is_sound(node, schema, pending):
            return False
    return True


def _is_sound(node: Mapping[str, Any], root: Any, pending: list[Any]) -> bool:
    """Whether the keywords of one schema have valid values. Appends its subschemas to `pending`."""
    for keyword, value in node.items():
        fits = _KEYWORDS.get(keyword)
        if fits is None:
            continue
        if not fits(value):
            return False
        if keyword in _LISTS or (keyword == "items" and isinstance(value, list)):
            pending.extend(value)
        elif keyword in _SCHEMAS or keyword == "items":
            pending.append(value)
        elif keyword in _MAPS:
            pending.extend(value.values())
        elif keyword == "$ref" and not _leads_somewhere(value, root):
            return False
    return ("$id" not in node or node is root) and ("nullable" not in node or "type" in node)


def _leads_somewhere(reference: Any, root: Any) -> bool:
    """Whether a reference is a JSON pointer to a schema inside `root`. Validators may not resolve any other."""
    if not isinstance(reference, str) or len(reference) > MAX_POINTER or not reference.startswith("#"):
        return False
    target = root
    for part in unquote(reference[1:]).split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and key in target:
            target = target[key]
        elif isinstance(target, list) and key.isdecimal() and len(key) < 6 and int(key) < len(target):
            target = target[int(key)]
        else:
            return False
    return isinstance(target, dict | bool) and (reference == "#" or reference.startswith("#/"))


def _is_type(value: Any) -> bool:
    if isinstance(value, str):
        return value in _TYPES
    return isinstance(value, list) and all(isinstance(name, str) and name in _TYPES for name in value)


def _is_pattern(value: Any) -> bool:
    """Whether JavaScript compiles the pattern in Unicode mode, which is stricter than Python."""
    if not isinstance(value, str) or len(value) > MAX_POINTER:
        return False
    plain = _COUNT.sub("", _CLASS.sub("a", _ESCAPE.sub("a", value)))
    if _NOT_IN_JAVASCRIPT.search(plain) is not None:
        return False
    try:
        re.compile(re.sub(r"\(\?<(?![=!])", "(?P<", plain))
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _is_schema(value: Any) -> bool:
    return isinstance(value, dict | bool)


def _is_items(value: Any) -> bool:
    return isinstance(value, dict | bool | list)


def _is_number(value: Any) -> bool:
    return type(value) in {int, float}


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


_SCHEMAS: Final = frozenset(
    ["not", "if", "then", "else", "contains", "propertyNames", "additionalProperties", "additionalItems"]
)
_LISTS: Final = frozenset(["anyOf", "allOf", "oneOf"])
_MAPS: Final = frozenset(["properties", "patternProperties", "$defs", "definitions"])
_NUMBERS: Final = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
)
_KEYWORDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "type": _is_type,
    "enum": lambda value: isinstance(value, list) and bool(value),
    "required": _is(list),
    "pattern": _is_pattern,
    "format": _is(str),
    "uniqueItems": _is(bool),
    "dependencies": _is(dict),
    "$ref": _is(str),
    "$id": _is(str),
    "id": lambda value: False,
    "items": _is_items,
    "nullable": lambda value: True,
    **dict.fromkeys(_NUMBERS, _is_number),
    **dict.fromkeys(_SCHEMAS, _is_schema),
    **dict.fromkeys(_LISTS, _is(list)),
    **dict.fromkeys(_MAPS, _is(dict)),
    "patternProperties": lambda value: isinstance(value, dict) and all(map(_is_pattern, value)),
}
