"""Arguments of a tool that the gateway sets, and the schema of the tool without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp import jsonrpc

_NONE: Final[Mapping[str, Raw]] = {}
_PROPERTIES: Final = "#/properties/"
_KEYED: Final = ("properties", "dependentRequired", "dependentSchemas", "dependencies")
"""Keywords of JSON Schema whose members are named after properties."""
_APPLIED: Final = ("allOf", "anyOf", "oneOf", "if", "then", "else", "not")
"""Keywords whose schemas apply to the same object."""


class Preset(msgspec.Struct, frozen=True, eq=False):
    """The arguments that are added to every call of a tool. Values are JSON, and may be secret."""

    fixed: Mapping[str, Raw] = _NONE
    """Always sent; an agent must not give them."""
    defaults: Mapping[str, Raw] = _NONE
    """Sent unless the agent gives another value."""

    @property
    def names(self) -> frozenset[str]:
        """The arguments that agents do not see."""
        return frozenset({*self.fixed, *self.defaults})

    def __repr__(self) -> str:
        return f"Preset({', '.join(sorted(self.names))})"

    def added_to(self, arguments: bytes) -> tuple[bytes, RpcError | None]:
        """The arguments of an agent, with these added, and the error for a fixed one that the agent gives."""
        given, error = jsonrpc.members(arguments, "params.arguments"), None
        for name in self.fixed:
            if name in given:
                message = f"the argument {name!r} is set by the gateway and cannot be given; send the call without it"
                error = RpcError.of_gateway(INVALID_PARAMS, message)
        return jsonrpc.encode({**self.defaults, **given, **self.fixed}), error

    def enforced_in(self, arguments: bytes) -> bytes:
        """The arguments as a plugin has rewritten them, with these added; the same object if they are there."""
        given = jsonrpc.members(arguments, "params.arguments")
        complete = {**self.defaults, **given, **self.fixed}
        return arguments if complete == given else jsonrpc.encode(complete)


def without_properties(schema: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """The schema of an object without some of its properties, which the gateway sets.

    Conditions that require such a property are met. Other properties may still refer to its schema.
    """
    hidden = frozenset(names)
    found = _reduced(schema, hidden)
    moved: dict[str, Any] = {}
    own, text = _mapping(schema.get("properties")), jsonrpc.encode(found)
    while new := [name for name in sorted(hidden & own.keys() - moved.keys()) if _refers(text, name)]:
        moved |= {name: own[name] for name in new}
        text = jsonrpc.encode(list(moved.values()))
    if moved:
        places = {_pointer(name): f"#/$defs/{_place(name)}" for name in moved}
        definitions = {**_mapping(found.get("$defs")), **{_raw_place(name): value for name, value in moved.items()}}
        found = _redirected({**found, "$defs": definitions}, places)
    return found


def _refers(text: bytes, name: str) -> bool:
    """Whether a schema, as JSON, may refer to the schema of a property."""
    begin = jsonrpc.encode(_pointer(name))[:-1]
    return any(begin + end in text for end in (b'"', b"/"))


def _reduced(schema: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    found = dict(schema)
    for keyword in _KEYED:
        if isinstance(members := found.get(keyword), dict):
            found[keyword] = {name: value for name, value in members.items() if name not in hidden}
    if isinstance(required := found.get("required"), list | tuple):
        found["required"] = [name for name in required if name not in hidden]
        if not found["required"]:
            del found["required"]  # draft 4 forbids an empty list
    for keyword in ("dependentRequired", "dependencies"):
        for name, needed in _mapping(found.get(keyword)).items():
            if isinstance(needed, list | tuple):
                found[keyword][name] = [one for one in needed if one not in hidden]
    for keyword in _APPLIED:
        part = found.get(keyword)
        if isinstance(part, dict):
            found[keyword] = _reduced(part, hidden)
        elif isinstance(part, list | tuple):
            found[keyword] = [_reduced(one, hidden) if isinstance(one, dict) else one for one in part]
    return found


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}


def _redirected(value: Any, places: Mapping[str, str]) -> Any:
    """A schema in which references to one place lead to another."""
    if isinstance(value, dict):
        found = {key: _redirected(member, places) for key, member in value.items()}
        reference = value.get("$ref")
        if isinstance(reference, str):
            for old, new in places.items():
                if reference == old or reference.startswith(f"{old}/"):
                    found["$ref"] = new + reference[len(old) :]
        return found
    return [_redirected(element, places) for element in value] if isinstance(value, list | tuple) else value


def _pointer(name: str) -> str:
    return _PROPERTIES + _escaped(name)


def _raw_place(name: str) -> str:
    return f"hidden-{name}"


def _place(name: str) -> str:
    return _escaped(_raw_place(name))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
