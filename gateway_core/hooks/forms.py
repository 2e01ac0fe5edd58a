"""The forms that agents show to their users: flat JSON schemas, and the values that users enter.

Source: 2026-07-28 and 2025-11-25, client/elicitation, Requested Schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Action
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.hooks.failures import Misuse
from gateway_core.mcp import jsonrpc

MAX_FIELDS: Final = 32
"""Maximum fields of a form."""
MAX_FORM: Final = 32 * 1024
"""Maximum bytes of a form's schema."""
MAX_VALUES: Final = 256 * 1024
"""Maximum bytes of the values that a user enters into a form."""

_ACTIONS: Final[Mapping[bytes, Action]] = {
    b'"accept"': "accept",
    b'"decline"': "decline",
    b'"cancel"': "cancel",
}
_DESCRIBED: Final = frozenset({"type", "title", "description", "default"})
_MEMBERS: Final[Mapping[str, frozenset[str]]] = {
    "string": _DESCRIBED | {"minLength", "maxLength", "format", "enum", "enumNames", "oneOf"},
    "number": _DESCRIBED | {"minimum", "maximum"},
    "integer": _DESCRIBED | {"minimum", "maximum"},
    "boolean": _DESCRIBED,
    "array": _DESCRIBED | {"minItems", "maxItems", "items"},
}
"""Type of a field -> the members that its schema may have."""
_BOUNDS: Final = (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems"))
_FORMATS: Final = frozenset({"email", "uri", "date", "date-time"})
_FORM: Final = frozenset({"$schema", "type", "properties", "required"})


def check_form(schema: Any) -> None:
    """Raise `Misuse` unless `schema` is a form that clients can show."""
    if not isinstance(schema, Mapping) or schema.get("type") != "object" or not _FORM.issuperset(schema):
        raise _no_form("it must have the type 'object', properties, and no other members than required and $schema")
    fields, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(fields, Mapping) or len(fields) > MAX_FIELDS:
        raise _no_form(f"its properties must be an object with at most {MAX_FIELDS} fields")
    if not isinstance(required, Sequence) or not all(isinstance(name, str) and name in fields for name in required):
        raise _no_form("its member required must name fields")
    for name, field in fields.items():
        _check_field(name, field)
    try:
        size = len(jsonrpc.encode(schema))
    except Exception as problem:
        raise _no_form("it cannot be written as JSON") from problem
    if size > MAX_FORM:
        raise _no_form(f"it has more than {MAX_FORM} bytes")


def _check_field(name: Any, field: Any) -> None:
    if not isinstance(name, str) or not isinstance(field, Mapping) or field.get("type") not in _MEMBERS:
        raise _no_form(f"the field {name!r} must be of the type {', '.join(_MEMBERS)}")
    unknown = sorted(str(member) for member in field if member not in _MEMBERS[field["type"]])
    if unknown:
        raise _no_form(f"the field {name!r} cannot have the member {unknown[0]!r}; forms are flat")
    if field.get("format", "email") not in _FORMATS:
        raise _no_form(f"the field {name!r} has a format other than {', '.join(sorted(_FORMATS))}")
    if not all(_is_number(field.get(bound, 0)) for pair in _BOUNDS for bound in pair):
        raise _no_form(f"the field {name!r} has a bound that is not a number")
    if field["type"] == "array" and _choices(field.get("items")) is None:
        raise _no_form(f"the field {name!r} must list its choices in items.enum or items.anyOf")
    if ("enum" in field or "oneOf" in field) and _choices(field) is None:
        raise _no_form(f"the field {name!r} must list its choices as texts")


def _choices(field: Any) -> Sequence[str] | None:
    """The values among which the user chooses; None if the field lists none."""
    if not isinstance(field, Mapping):
        return None
    listed = field.get("enum")
    if listed is None:
        titled = field.get("oneOf", field.get("anyOf"))
        if not isinstance(titled, Sequence) or not all(isinstance(it, Mapping) for it in titled):
            return None
        listed = [it.get("const") for it in titled]
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not all(isinstance(it, str) for it in listed):
        return None
    return listed


def _no_form(why: str) -> Misuse:
    return Misuse(f"returned an Ask whose schema is not a form: {why}")


def read_answer(raw: bytes, schema: Mapping[str, Any] | None, where: str) -> tuple[Action, bytes]:
    """The action of an `ElicitResult`, and the JSON of the form's values; empty without a form.

    `where` names the result in errors. Raises `RpcError(INVALID_PARAMS)` if it is malformed or does not match `schema`.
    The message never quotes a value.
    """
    members = jsonrpc.members(raw, where)
    action = _ACTIONS.get(bytes(members.get("action", b"")))
    if action is None:
        raise _invalid(f"{where}.action must be 'accept', 'decline' or 'cancel'")
    if action != "accept" or not (schema and schema.get("properties")):
        return action, b""
    content = bytes(members.get("content", Raw(b"{}")))
    if len(content) > MAX_VALUES:
        raise _invalid(f"{where}.content has more than {MAX_VALUES} bytes")
    values = jsonrpc.value(b"{}" if content == b"null" else content)
    if not isinstance(values, dict):
        raise _invalid(f"{where}.content must be an object")
    fields: Mapping[str, Any] = schema["properties"]
    for name in schema.get("required", ()):
        if values.get(name) is None:
            raise _invalid(f"{where}.content.{name} is missing")
    kept = {name: values[name] for name in fields if values.get(name) is not None}
    for name, value in kept.items():
        problem = _problem(fields[name], value)
        if problem:
            raise _invalid(f"{where}.content.{name} {problem}")
    return action, jsonrpc.encode(kept)


def _problem(field: Mapping[str, Any], value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    kind = field["type"]
    if not _TYPES[kind](value):
        return f"must be of the type {kind}"
    choices = _choices(field.get("items") if kind == "array" else field)
    if choices is not None and not all(it in choices for it in (value if kind == "array" else [value])):
        return "is not one of the choices"
    size = value if kind in {"number", "integer"} else len(value) if kind in {"string", "array"} else 0
    for low, high in _BOUNDS:
        if not field.get(low, -math.inf) <= size <= field.get(high, math.inf):
            return f"is not within {low} and {high}"
    return ""


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_integer(value) or (isinstance(value, float) and value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
}


def _invalid(why: str) -> RpcError:
    return RpcError.of_gateway(INVALID_PARAMS, why)
