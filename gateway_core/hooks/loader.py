"""Finds the enabled plugins by name, validates their settings, constructs them.

A plugin has one name: its entry point (group `gateway_core`) is its name in the TOML, in the logs and in
`rad mcp proxy plugins`. With dashes, after `gateway-`, it is the name of the distribution. **Installed is not
enabled**: only names that the configuration enables are imported.

All problems are reported together, each as `file:line: mcp.proxy.plugins[i] (name): what, and what to do`. Messages
never contain the values of settings, because any value may be a secret.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from importlib.metadata import EntryPoint, EntryPoints, entry_points, requires
from typing import Any, Final

import msgspec

from gateway_core.api import PluginConfig
from gateway_core.config import PluginEntry, ProxyConfig, forwarded_headers
from gateway_core.errors import FileProblem, PluginError
from gateway_core.hooks.authenticators import call_headers, declared_by
from gateway_core.hooks.checks.classes import (
    STRATEGIES,
    class_problems,
    config_problems,
    instance_problems,
    methods_of,
)
from gateway_core.hooks.failures import brief
from gateway_core.hooks.implementations import HOOKS, LoadedPlugin, implementations, manager
from gateway_core.hooks.pages import pages_of
from gateway_core.hooks.settings import EntryReport, validated

__all__ = ["InstalledPlugin", "LoadedPlugin", "construct", "installed", "load", "load_plugins"]

GROUP: Final = "gateway_core"


class InstalledPlugin(msgspec.Struct, frozen=True):
    """A plugin that the configuration may enable."""

    name: str
    distribution: str
    version: str


def installed() -> list[InstalledPlugin]:
    """The installed plugins by name, from the metadata of distributions, without importing them."""
    found = [InstalledPlugin(point.name, *_distribution(point)) for point in entry_points(group=GROUP)]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def load_plugins(proxy: ProxyConfig, source: str, *, running: Sequence[LoadedPlugin] = ()) -> tuple[LoadedPlugin, ...]:
    """The enabled plugins of a configuration; see `load`."""
    forwarded = forwarded_headers(proxy)
    return load(proxy.plugins, source, running=running, certificates=proxy.asks_certificates, forwarded=forwarded)


def load(
    entries: Sequence[PluginEntry],
    source: str = "<file>",
    *,
    running: Sequence[LoadedPlugin] = (),
    certificates: bool = False,
    forwarded: Collection[str] = (),
) -> tuple[LoadedPlugin, ...]:
    """Find, validate and construct the enabled plugins of `entries`, in order.

    `source`: the path of the configuration file, for messages; relative paths in settings start at its folder.
    `running`: plugins that were loaded before. One with equal settings is used again, with what it has in memory.
    `certificates`: whether agents may present client certificates. `forwarded`: headers that upstreams get, in lower
    case, which plugins therefore do not see.
    Raises `PluginError` with all problems.
    """
    known = {plugin.name: plugin for plugin in running}
    problems: list[FileProblem] = []
    registry = manager()
    points = entry_points(group=GROUP)  # once, because it reads the metadata of all distributions
    found: dict[str, LoadedPlugin] = {}
    reports: dict[str, EntryReport] = {}
    strategies: dict[str, str] = {}
    for index, entry in enumerate(entries):
        if not entry.enabled:
            continue
        report = reports[entry.name] = EntryReport(problems, source, index, entry)
        plugin = _load(entry, report, points, known.get(entry.name))
        if plugin is None:
            continue
        if not certificates and getattr(plugin.instance, "needs_client_certificates", False) is True:
            report("needs client certificates: set client_ca below [mcp.proxy.tls]")
        found[plugin.name] = plugin
        for hook in plugin.hooks:
            first = strategies.setdefault(hook, plugin.name) if hook in STRATEGIES else plugin.name
            if first != plugin.name:
                report(f"implements {hook}, and so does {first}; enable only one of {first} and {plugin.name}")
        try:
            registry.register(plugin.instance, plugin.name)
        except BaseException as error:  # noqa: BLE001 - pluggy reads every attribute of the plugin
            report(f"is refused by pluggy: {brief(error)}")
    plugins = tuple(found.values())
    pages_of(plugins, lambda plugin, why: reports[plugin.name](why))
    declared_by(plugins, lambda plugin, why: reports[plugin.name](why))
    call_headers(plugins, lambda plugin, why: reports[plugin.name](why), forwarded)
    if problems:
        raise PluginError("\n".join(problems), problems)
    return plugins


def preload(entries: Sequence[PluginEntry]) -> None:
    """Import the enabled plugins, in a thread. What goes wrong is reported by `load`."""
    points = entry_points(group=GROUP)
    for entry in entries:
        for point in points.select(name=entry.name) if entry.enabled else ():
            with contextlib.suppress(BaseException):
                point.load()


def _load(
    entry: PluginEntry, report: EntryReport, installed: EntryPoints, running: LoadedPlugin | None
) -> LoadedPlugin | None:
    point = _find(entry.name, report, installed)
    if point is None:
        return None
    distribution, version = _distribution(point)
    try:
        plugin = point.load()
    except BaseException as error:  # noqa: BLE001 - an import can raise anything
        report(f"cannot be imported from {point.value} ({distribution} {version}): {brief(error)}; reinstall it")
        return None
    if not inspect.isclass(plugin):
        report(f"{point.value} ({distribution} {version}) is not a class; the entry point must name the plugin's class")
        return None
    problems = class_problems(plugin, entry.on_error)
    methods = methods_of(plugin, problems.append)
    for problem in problems:
        report(problem)
    config = _settings(plugin, entry, report)
    if config is None or problems:
        return None
    try:
        known = running is not None and type(running.instance) is plugin and running.config == config
        instance = running.instance if running is not None and known else construct(plugin, config)
    except BaseException as error:  # noqa: BLE001 - a constructor can raise anything
        report(f"cannot be constructed: {brief(error)}")
        return None
    for problem in instance_problems(instance, methods):
        report(problem)
    methods &= methods_of(instance, report)  # its settings may select fewer methods than its class
    hooks = tuple(name for name in HOOKS if name in dict(implementations(plugin)))
    return LoadedPlugin(entry.name, instance, version, distribution, hooks, entry.on_error, methods, config)


def construct(plugin: type, config: PluginConfig) -> object:
    """Construct a plugin, with its settings if its constructor takes them as its first argument.

    Raises `TypeError` if it does not, but the plugin has settings.
    """
    factory: Any = plugin
    if _takes_settings(plugin):
        return factory(config)
    if type(config).model_fields:
        raise TypeError("its Config has settings, but its constructor takes none; write __init__(self, config)")
    return factory()


def _takes_settings(plugin: type) -> bool:
    """Whether the constructor takes an argument. One with a default may be for tests, if there is no `Config`."""
    for parameter in inspect.signature(plugin).parameters.values():
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL}:
            return parameter.default is parameter.empty or hasattr(plugin, "Config")
    return False


def _find(name: str, report: EntryReport, installed: EntryPoints) -> EntryPoint | None:
    points = list(installed.select(name=name))
    if len(points) == 1:
        return points[0]
    if points:
        owners = " and ".join(" ".join(_distribution(point)) for point in points)
        report(f"is provided by {len(points)} distributions, {owners}; uninstall all but one of them")
        return None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        report("is not a plugin name; names are made of letters, digits and underscores")
        return None
    report(f"is not installed; {_proposal(name)}")
    return None


def _proposal(name: str) -> str:
    """What to do about a plugin that is not installed. Never builds a command from an unknown name."""
    found = {plugin.name: "" for plugin in installed()}
    others = {plugin: f"run: pip install {distribution}" for plugin, distribution in _bundled() if plugin not in found}
    if name in others:
        return others[name]
    close = difflib.get_close_matches(name, [*found, *others], n=1)
    if close and close[0] in found:
        return f"did you mean {close[0]}?"
    if close:
        return f"did you mean {close[0]}? To install that, {others[close[0]]}"
    return (
        f"correct the name, or install the distribution that provides it; installed are: {', '.join(found) or 'none'}"
    )


def _bundled() -> Iterator[tuple[str, str]]:
    """Name and distribution of each plugin that is released with the gateway: those in its extra `standard`."""
    for requirement in requires("gateway-core") or ():
        distribution = re.match(r"gateway-[a-z-]+", requirement)
        if distribution is not None:
            yield distribution[0].removeprefix("gateway-").replace("-", "_"), distribution[0]


def is_bundled(name: str) -> bool:
    """Whether every distribution that provides a plugin of this name is released with the gateway."""
    ours = {distribution for _, distribution in _bundled()}
    found = {_distribution(point)[0] for point in entry_points(group=GROUP, name=name)}
    return bool(found) and found <= ours


def settings_model(name: str) -> type[PluginConfig]:
    """The model of the settings of an installed plugin, which is imported; of no settings if there is none."""
    for point in entry_points(group=GROUP, name=name):
        with contextlib.suppress(BaseException):
            model = getattr(point.load(), "Config", PluginConfig)
            if inspect.isclass(model) and issubclass(model, PluginConfig):
                return model
    return PluginConfig


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return ("unknown", "") if point.dist is None else (point.dist.name, point.dist.version)


def _settings(plugin: type, entry: PluginEntry, report: EntryReport) -> PluginConfig | None:
    problems = [*config_problems(plugin)]
    for problem in problems:
        report(problem)
    return None if problems else validated(getattr(plugin, "Config", PluginConfig), entry, report)
