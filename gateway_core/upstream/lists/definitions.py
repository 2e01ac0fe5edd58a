"""Repairs definitions of tools, resources, templates and prompts for strict clients.

The official SDKs validate a list as a whole: one malformed member makes a client reject the entries of all upstreams.
The rules below are the strictest of those SDKs (TypeScript SDK 1.x and 2.x: zod; Python SDK 1.x and 2.x: pydantic) for
the revisions up to 2026-07-28. A definition that only clients up to 2025-11-25 reject is valid; `legacy_members`
computes what those clients get instead.

A malformed optional member is removed from its object, a malformed list element from its list. An entry without a
usable value in a required member cannot be repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec
from pydantic_core import Url

from gateway_core.api import Kind
from gateway_core.upstream.lists.schemas import compiles

MAX_FAULTS: Final = 32
"""Maximum malformed members repaired in one entry; with more, the entry is omitted."""
MAX_PATH: Final = 80
_AS_OBJECT: Final[Mapping[bool, Mapping[str, Any]]] = {True: {}, False: {"not": {}}}
"""The object form of a boolean schema."""
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", re.ASCII)


class Unusable(Exception):
    """An entry must be omitted; the text says why."""


class Unfit(Unusable):
    """A value that cannot be repaired. `where` is the path of the malformed member: `inputSchema.type`."""

    def __init__(self, where: str) -> None:
        super().__init__(f"{_short(where) or 'it'} is missing or malformed")
        self.where = where


def repair(kind: Kind, definition: Any) -> tuple[str, ...]:
    """Repair a decoded definition in place, if necessary.

    Returns the paths of the members removed, replaced or added; empty for a valid definition. Raises `Unusable`.
    """
    if not isinstance(definition, dict):
        raise Unusable("it is not an object")
    faults: list[str] = []
    stand_in = _STAND_INS.get(kind)
    if stand_in is not None:
        member, value = stand_in(definition)
        if member not in definition:
            definition[member] = value
            faults.append(member)
    _RULES[kind].check(definition, "", faults)
    return tuple(faults)


def legacy_members(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Replacements for members of a repaired tool that legacy agents would reject; None: remove the member for them.

    For them an output schema describes an object, and the schema of a property is never a boolean (2025-11-25,
    `Tool`). Some compile output schemas, and reject the list if one does not compile.
    """
    changed: dict[str, Any] = {}
    for member in ("inputSchema", "outputSchema"):
        schema = definition.get(member)
        if schema is None:
            continue
        if member == "outputSchema" and not (schema.get("type") == "object" and compiles(schema)):
            changed[member] = None
            continue
        properties = schema.get("properties", {})
        if any(isinstance(each, bool) for each in properties.values()):
            worded = {name: _AS_OBJECT[each] if isinstance(each, bool) else each for name, each in properties.items()}
            changed[member] = {**schema, "properties": worded}
    return changed


class _Rule(Protocol):
    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        """Return the repaired value, and add the paths of repairs to `faults`. Raises `Unfit`."""


class _Value(msgspec.Struct, frozen=True):
    """Rule: a value that `fits` accepts."""

    fits: Callable[[Any], bool]

    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        if not self.fits(value):
            raise Unfit(where)
        return value


class _ListOf(msgspec.Struct, frozen=True):
    """Rule: a list. Malformed elements are removed."""

    element: _Rule

    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        if not isinstance(value, list):
            raise Unfit(where)
        kept = []
        for number, element in enumerate(value):
            try:
                kept.append(self.element.check(element, f"{where}[{number}]", faults))
            except Unfit as unfit:
                _note(unfit.where, faults)
        value[:] = kept
        return value


class _Object(msgspec.Struct, frozen=True):
    """Rule: an object. Malformed optional members are removed; members without a rule stay."""

    optional: Mapping[str, _Rule] = msgspec.field(default_factory=dict)
    required: Mapping[str, _Rule] = msgspec.field(default_factory=dict)

    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        if not isinstance(value, dict):
            raise Unfit(where)
        for name, rule in self.required.items():
            path = f"{where}.{name}" if where else name
            if name not in value:
                raise Unfit(path)
            value[name] = rule.check(value[name], path, faults)
        for name, rule in self.optional.items():
            if name in value:
                path = f"{where}.{name}" if where else name
                try:
                    value[name] = rule.check(value[name], path, faults)
                except Unfit as unfit:
                    del value[name]
                    _note(unfit.where, faults)
        return value


class _Properties:
    """Rule: schemas by property name. An invalid schema becomes `{}`, which allows any value, to keep the property."""

    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        if not isinstance(value, dict):
            raise Unfit(where)
        for name, schema in value.items():
            if not isinstance(schema, dict | bool):
                value[name] = {}
                _note(f"{where}.{name}", faults)
        return value


class _InputSchema:
    """Rule: the schema of arguments. These are always an object, so a missing `type` is added."""

    def check(self, value: Any, where: str, faults: list[str]) -> Any:
        if value is None or value is True or value == []:
            _note(where, faults)
            return {"type": "object"}
        if isinstance(value, dict) and value.get("type") != "object":
            kind = value.get("type")
            if kind is not None and not (isinstance(kind, list) and "object" in kind):
                raise Unfit(f"{where}.type")
            value["type"] = "object"
            _note(f"{where}.type", faults)
        return _SCHEMA.check(value, where, faults)


def _note(where: str, faults: list[str]) -> None:
    if len(faults) >= MAX_FAULTS:
        raise Unusable(f"more than {MAX_FAULTS} of its members are malformed")
    faults.append(_short(where))


def _short(path: str) -> str:
    return path if len(path) <= MAX_PATH else f"{path[: MAX_PATH - 1]}…"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_uri(value: Any) -> bool:
    """Whether the Python SDK 1.x can parse it; the other SDKs accept any text."""
    try:
        Url(value)
    except ValueError:
        return False
    return True


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_whole(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _is_share(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _one_of(*texts: str) -> _Value:
    return _Value(lambda value: isinstance(value, str) and value in texts)


_TEXT: Final = _Value(_is_text)
_FLAG: Final = _Value(lambda value: isinstance(value, bool))
_ICON: Final = _Object(
    {"mimeType": _TEXT, "sizes": _ListOf(_TEXT), "theme": _one_of("light", "dark")}, required={"src": _TEXT}
)
_COMMON: Final[Mapping[str, _Rule]] = {
    "title": _TEXT,
    "description": _TEXT,
    "icons": _ListOf(_ICON),
    "_meta": _Value(_is_object),
}
_SCHEMA: Final = _Object({"$schema": _TEXT, "properties": _Properties(), "required": _ListOf(_TEXT)})
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_ANNOTATIONS: Final = _Object(
    {
        "audience": _ListOf(_one_of("user", "assistant")),
        "priority": _Value(_is_share),
        "lastModified": _Value(_is_date),
    }
)
_OF_RESOURCES: Final[Mapping[str, _Rule]] = {**_COMMON, "mimeType": _TEXT, "annotations": _ANNOTATIONS}
_ARGUMENT: Final = _Object({"title": _TEXT, "description": _TEXT, "required": _FLAG}, required={"name": _TEXT})
_RULES: Final[Mapping[Kind, _Rule]] = {
    "tool": _Object(
        {
            **_COMMON,
            "outputSchema": _SCHEMA,
            "annotations": _Object({"title": _TEXT, **dict.fromkeys(_HINTS, _FLAG)}),
            "execution": _Object({"taskSupport": _one_of("forbidden", "optional", "required")}),
        },
        required={"name": _Value(_is_name), "inputSchema": _InputSchema()},
    ),
    "resource": _Object({**_OF_RESOURCES, "size": _Value(_is_whole)}, required={"uri": _Value(_is_uri), "name": _TEXT}),
    "template": _Object(_OF_RESOURCES, required={"uriTemplate": _Value(_is_name), "name": _TEXT}),
    "prompt": _Object({**_COMMON, "arguments": _ListOf(_ARGUMENT)}, required={"name": _Value(_is_name)}),
}
_STAND_INS: Final[Mapping[Kind, Callable[[dict[str, Any]], tuple[str, Any]]]] = {
    "tool": lambda definition: ("inputSchema", {"type": "object"}),
    "resource": lambda definition: ("name", definition.get("uri")),
    "template": lambda definition: ("name", definition.get("uriTemplate")),
}
"""Default values for a required member that is absent."""
