"""Describes the installed plugins, enabled or not: their hooks and settings, for people.

This imports them. The gateway itself imports only what the configuration enables, so it does not use this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

import msgspec
from pydantic import SecretStr, TypeAdapter
from pydantic.fields import FieldInfo

from gateway_core.api import PluginConfig
from gateway_core.hooks import HOOKS
from gateway_core.hooks.failures import brief
from gateway_core.hooks.implementations import implementations
from gateway_core.hooks.loader import GROUP, installed


class Described(msgspec.Struct, frozen=True):
    """One installed plugin."""

    name: str
    distribution: str
    version: str
    hooks: tuple[str, ...] = ()
    settings: tuple[dict[str, Any], ...] = ()
    """`name`, `type`, `default`, `required` and `description` of each setting."""
    problem: str | None = None
    """Why hooks and settings are not known."""


def described() -> list[Described]:
    """The installed plugins by name. A plugin that cannot be imported is listed with the reason."""
    return [_described(plugin.name, plugin.distribution, plugin.version) for plugin in installed()]


def _described(name: str, distribution: str, version: str) -> Described:
    points = [
        point for point in entry_points(group=GROUP, name=name) if point.dist is None or point.dist.name == distribution
    ]
    try:
        plugin = points[0].load()
        if not inspect.isclass(plugin):
            return Described(name, distribution, version, problem="its entry point does not name a class")
        found = dict(implementations(plugin))
        hooks = tuple(hook for hook in HOOKS if hook in found)
        return Described(name, distribution, version, hooks, _settings(plugin))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return Described(name, distribution, version, problem=f"cannot be imported: {brief(error)}; reinstall it")


def _settings(plugin: type) -> tuple[dict[str, Any], ...]:
    model = getattr(plugin, "Config", PluginConfig)
    if not (inspect.isclass(model) and issubclass(model, PluginConfig)):
        return ()
    return tuple(_setting(field.alias or name, field) for name, field in model.model_fields.items())


def _setting(name: str, field: FieldInfo) -> dict[str, Any]:
    required = field.is_required()
    return {
        "name": name,
        "type": _type(field),
        "default": None if required else _plain(field.get_default(call_default_factory=True, validated_data={})),
        "required": required,
        "description": field.description or "",
    }


def _type(field: FieldInfo) -> str:
    """The type as TOML has it: `boolean`, `integer`, `list of text`, `"a" or "b"`, …"""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(field.annotation or Any)
        return _words(adapter.json_schema())
    except Exception:  # noqa: BLE001 - a type without a JSON schema, or one that cannot be evaluated
        return getattr(field.annotation, "__name__", "value")


def _words(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "table"
    if isinstance(listed := schema.get("enum"), list):
        return " or ".join(f'"{value}"' for value in listed)
    if "const" in schema:
        return f'"{schema["const"]}"'
    if isinstance(alternatives := schema.get("anyOf"), list):
        return " or ".join(_words(one) for one in alternatives if one.get("type") != "null")
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        return f"list of {_words(items)}" if isinstance(items, dict) and items else "list"
    return {"object": "table", "string": "text"}.get(str(kind), str(kind or "value"))


def _plain(value: Any) -> Any:
    """A default as JSON has it; a secret one is not shown."""
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
