"""Hook implementations: what the loader registers with pluggy, and what the chain calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, ValuesView
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import msgspec
import pluggy
import pydantic
from pydantic import BaseModel, SecretBytes, SecretStr

from gateway_core.api import PluginConfig
from gateway_core.concealing import Secret
from gateway_core.errors import PluginError
from gateway_core.hooks import hookspecs

HOOKS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(inspect.signature(spec).parameters)
    for name, spec in vars(hookspecs).items()
    if hasattr(spec, f"{hookspecs.PROJECT}_spec")
}
"""Name of each hook -> names of its parameters."""
MAX_WARNINGS: Final = 20
MAX_WARNING: Final = 1000
"""Bounds of the warnings of a plugin: their number, and the characters of each."""


@dataclass(frozen=True, slots=True)
class LoadedPlugin:
    """An enabled plugin after it was found, validated and constructed."""

    name: str
    instance: object
    version: str
    distribution: str
    hooks: tuple[str, ...]
    on_error: Literal["reject", "ignore"]
    methods: frozenset[str]
    """The MCP methods for which its `before_call` and `after_call` run."""
    config: PluginConfig | None = None
    """Its settings; None if it was not made from a configuration file."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets in its settings: all values whose type is one of pydantic's for secrets."""
        label = f"a setting of plugin {self.name}"
        return tuple(Secret(label, value) for value in _secrets_in(self.config) if value)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the plugin says about its own state in its optional attribute `warnings`, for `status`."""
        try:
            found = getattr(self.instance, "warnings", ())
            given = [found] if isinstance(found, str) else list(found)
            return tuple(text[:MAX_WARNING] for text in given[:MAX_WARNINGS] if isinstance(text, str))
        except Exception as error:  # noqa: BLE001 - a plugin's bug must not hide the state of the gateway
            return (f"its warnings cannot be read: {type(error).__name__}",)


Refuse: TypeAlias = Callable[[LoadedPlugin, str], None]
"""Called with a plugin that cannot be used, and why, in words that follow its name."""


def refused(plugin: LoadedPlugin, why: str) -> None:
    """Refuse a plugin. Raises `PluginError`."""
    raise PluginError(f"the plugin {plugin.name} cannot be used: {why}")


def implementations(plugin: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of the methods marked `@hookimpl`, with the marker's options."""
    for name in dir(plugin):
        method = getattr(plugin, name, None)
        options = getattr(method, f"{hookspecs.PROJECT}_impl", None) if inspect.isroutine(method) else None
        if isinstance(options, dict):
            yield name, options


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, (pydantic.Secret, SecretStr, SecretBytes)):
        secret = value.get_secret_value()
        if isinstance(secret, bytes):
            yield secret.decode(errors="replace")
        elif isinstance(secret, str):
            yield secret
        return
    if isinstance(value, BaseModel):
        value = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, Mapping):
        value = value.values()
    if not isinstance(value, (list, tuple, set, frozenset, ValuesView)):
        return
    for part in value:
        yield from _secrets_in(part)


def manager() -> pluggy.PluginManager:
    """A pluggy manager with the eight hooks and no plugins."""
    found = pluggy.PluginManager(hookspecs.PROJECT)
    found.add_hookspecs(hookspecs)
    return found


class Hook(msgspec.Struct, frozen=True):
    """One plugin's implementation of one hook; `function` takes all of the hook's arguments, by position."""

    plugin: LoadedPlugin
    name: str
    function: Callable[..., Any]
    is_async: bool
    reads_arguments: bool = False
    """For `after_call`: whether it may read the arguments and the `_meta` of the call."""

    @classmethod
    def of(cls, plugin: LoadedPlugin, name: str) -> Hook:
        """Wrap the plugin's method to take all arguments by position and drop the unused ones."""
        method: Callable[..., Any] = getattr(plugin.instance, name)
        function = method
        wanted, given = tuple(inspect.signature(method).parameters), HOOKS[name]
        if wanted != given:
            positions = tuple(given.index(argument) for argument in wanted)

            def function(*values: Any) -> Any:
                return method(*[values[position] for position in positions])

        reads = name == "after_call" and "call" in wanted
        reads = reads and getattr(plugin.instance, "after_call_reads_arguments", True) is not False
        return cls(plugin, name, function, inspect.iscoroutinefunction(method), reads)
