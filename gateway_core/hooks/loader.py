"""Finds the enabled plugins by name, validates their settings, constructs them.

A plugin has one name: its entry point (group `gateway_core`) is its name in the TOML, in the logs and in
`rad mcp proxy plugins`. With dashes, after `gateway-`, it is the name of the distribution. **Installed is not
enabled**: only names that the configuration enables are imported.

All problems are reported together, each as `file:line: mcp.proxy.plugins[i] (name): what, and what to do`. Messages
never contain the values of settings, because any value may be a secret.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, requires
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

from gateway_core.api import PluginConfig
from gateway_core.api.plugin import FOLDER
from gateway_core.config import PluginEntry
from gateway_core.errors import FileProblem, PluginError
from gateway_core.hooks import HOOKS, LoadedPlugin, manager
from gateway_core.hooks.failures import brief
from gateway_core.hooks.hookspecs import PROJECT
from gateway_core.mcp.names import CALLS, PLUGIN_METHODS

__all__ = ["InstalledPlugin", "LoadedPlugin", "construct", "installed", "load", "settings_of"]

GROUP: Final = "gateway_core"
SettingsT = TypeVar("SettingsT", bound=PluginConfig)
_STRATEGIES: Final = ("route_tool", "resolve_conflict")
"""Synchronous hooks that at most one enabled plugin may implement."""
_ORDERING: Final = ("tryfirst", "trylast", "wrapper", "hookwrapper")


@dataclass(frozen=True, slots=True)
class _Report:
    """Collects the problems of one plugin entry."""

    problems: list[FileProblem]
    source: str
    key: str
    """Dotted path of the entry."""
    entry: PluginEntry

    def __call__(self, what: str, key: str = "") -> None:
        """`key`: dotted path of the invalid setting, if any; the message gives its line."""
        setting = key
        line = self.entry.key_lines.get(key)
        while line is None and key:  # an inline table or a missing key has no line; use its parent's
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
            line = self.entry.key_lines.get(key)
        line = self.entry.line if line is None else line
        full_key = self.key + (f".{setting}" if setting else "")
        shown = f"{self.key} ({self.entry.name})"
        self.problems.append(FileProblem(self.source, line, full_key, what, shown_key=shown))


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plugin that the configuration may enable."""

    name: str
    distribution: str
    version: str


def installed() -> list[InstalledPlugin]:
    """The installed plugins by name, from the metadata of distributions, without importing them."""
    found = [InstalledPlugin(point.name, *_distribution(point)) for point in entry_points(group=GROUP)]
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def load(
    entries: Sequence[PluginEntry], source: str = "<file>", *, running: Sequence[LoadedPlugin] = ()
) -> tuple[LoadedPlugin, ...]:
    """Find, validate and construct the enabled plugins of `entries`, in order.

    `source`: the path of the configuration file, for messages; relative paths in settings start at its folder.
    `running`: plugins that were loaded before. One with equal settings is used again, with what it has in memory.
    Raises `PluginError` with all problems.
    """
    known = {plugin.name: plugin for plugin in running}
    problems: list[FileProblem] = []
    registry = manager()
    found: dict[str, LoadedPlugin] = {}
    strategies: dict[str, str] = {}
    for index, entry in enumerate(entries):
        if not entry.enabled:
            continue
        report = _Report(problems, source, f"mcp.proxy.plugins[{index}]", entry)
        if entry.name in found:
            report("is enabled twice; remove one of the two tables")
            continue
        plugin = _load(entry, report, known.get(entry.name))
        if plugin is None:
            continue
        found[plugin.name] = plugin
        for hook in plugin.hooks:
            first = strategies.setdefault(hook, plugin.name) if hook in _STRATEGIES else plugin.name
            if first != plugin.name:
                report(f"implements {hook}, and so does {first}; enable only one of {first} and {plugin.name}")
        try:
            registry.register(plugin.instance, plugin.name)
        except BaseException as error:  # noqa: BLE001 - pluggy reads every attribute of the plugin
            report(f"is refused by pluggy: {brief(error)}")
    if problems:
        raise PluginError("\n".join(problems), problems)
    return tuple(found.values())


def _load(entry: PluginEntry, report: _Report, running: LoadedPlugin | None) -> LoadedPlugin | None:
    point = _find(entry.name, report)
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
    problems = _hook_problems(plugin)
    if entry.on_error == "ignore":
        if "authenticate" in dict(implementations(plugin)):
            problems.append('implements authenticate, which must refuse when it fails; remove on_error = "ignore"')
        elif getattr(plugin, "fails_closed", False):
            problems.append('must refuse calls when it fails; remove on_error = "ignore"')
    for problem in problems:
        report(problem)
    methods = _methods(plugin, report)
    config = _settings(plugin, entry, report)
    if config is None or methods is None or problems:
        return None
    try:
        known = running is not None and type(running.instance) is plugin and running.config == config
        instance = running.instance if running is not None and known else construct(plugin, config)
    except BaseException as error:  # noqa: BLE001 - a constructor can raise anything
        report(f"cannot be constructed: {brief(error)}")
        return None
    if "methods" in getattr(instance, "__dict__", {}):  # its settings may select fewer methods than its class
        methods &= _methods(instance, report) or frozenset()
    hooks = tuple(name for name in HOOKS if name in dict(implementations(plugin)))
    return LoadedPlugin(entry.name, instance, version, distribution, hooks, entry.on_error, methods, config)


def construct(plugin: type, config: PluginConfig) -> object:
    """Construct a plugin. A class without its own constructor gets no settings."""
    factory: Any = plugin
    return factory() if factory.__init__ is object.__init__ else factory(config)


def _find(name: str, report: _Report) -> EntryPoint | None:
    points = list(entry_points(group=GROUP, name=name))
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


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return ("unknown", "") if point.dist is None else (point.dist.name, point.dist.version)


def settings_of(model: type[SettingsT], entry: PluginEntry, index: int, source: str) -> SettingsT:
    """The settings of one entry, enabled or not, for a command of its plugin.

    `index`: the place of the entry in the file. Raises `PluginError` with all problems.
    """
    problems: list[FileProblem] = []
    found = _validated(model, entry, _Report(problems, source, f"mcp.proxy.plugins[{index}]", entry))
    if found is None:
        raise PluginError("\n".join(problems), problems)
    return found


def _settings(plugin: type, entry: PluginEntry, report: _Report) -> PluginConfig | None:
    model = getattr(plugin, "Config", PluginConfig)
    if not (inspect.isclass(model) and issubclass(model, PluginConfig)):
        report("its Config is not a subclass of gateway_core.PluginConfig")
        return None
    return _validated(model, entry, report)


def _validated(model: type[SettingsT], entry: PluginEntry, report: _Report) -> SettingsT | None:
    try:
        return model.model_validate(entry.settings, context={FOLDER: Path(report.source).absolute().parent})
    except ValidationError as invalid:
        known = [field.alias or name for name, field in model.model_fields.items()]
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])[1:]
            advice = _advice(error, known, model, _source(entry, path))
            report(f"{path}: {advice}" if path else advice, path)
    except BaseException as error:  # noqa: BLE001 - a validator can raise anything
        report(f"its settings cannot be checked: {type(error).__name__}")
    return None


def _source(entry: PluginEntry, path: str) -> str:
    """Where a setting, or a part of it, came from; empty if it stands in the file."""
    inside = re.compile(rf"{re.escape(path)}($|[.\[])" if path else "")
    return " and ".join(dict.fromkeys(source for key, source in entry.sources.items() if inside.match(key)))


def _advice(error: Any, known: list[str], model: type[PluginConfig], source: str) -> str:
    """What is wrong and what to do. `source`: where the value came from, if from `${…}`; it is then never shown."""
    key = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"unknown setting; {hint}{'it has ' + ', '.join(known) if known else 'this plugin has no settings'}"
    field = model.model_fields.get(key)
    meaning = f" ({field.description})" if field is not None and field.description else ""
    if error["type"] == "missing":
        return f"is required{meaning}; add it"
    if not source:
        return f"{error['msg'].removeprefix('Value error, ')}{meaning}"
    # Only the texts of pydantic's own errors are known to show no value.
    own = error["type"] in get_args(ErrorType) and error["type"] not in {"value_error", "assertion_error"}
    return f"{error['msg'] if own else 'is not valid'}{meaning} (the value comes from {source})"


def _methods(plugin: object, report: _Report) -> frozenset[str] | None:
    given: Any = getattr(plugin, "methods", CALLS)
    if isinstance(given, str) or not isinstance(given, (frozenset, set, tuple, list)):
        report(f"its methods must be a set or tuple of method names, not a {type(given).__name__}")
        return None
    unknown = [method for method in given if not isinstance(method, str) or method not in PLUGIN_METHODS]
    for method in unknown:
        report(f"its methods name {method!r}, which is none of {', '.join(sorted(PLUGIN_METHODS))}")
    return None if unknown else frozenset(given)


def implementations(plugin: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of the methods marked `@hookimpl`, with the marker's options."""
    for name in dir(plugin):
        method = getattr(plugin, name, None)
        options = getattr(method, f"{PROJECT}_impl", None) if inspect.isroutine(method) else None
        if isinstance(options, dict):
            yield name, options


def _hook_problems(plugin: type) -> list[str]:
    marked = dict(implementations(plugin))
    problems = [
        f"its method {name} has a hook's name but no @hookimpl above it"
        for name in HOOKS
        if name not in marked and inspect.isroutine(getattr(plugin, name, None))
    ]
    if not marked and not problems:
        problems.append(f"has no method marked @hookimpl; the hooks are {', '.join(HOOKS)}")
    for name, options in marked.items():
        if name not in HOOKS:
            close = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else f"the hooks are {', '.join(HOOKS)}"
            problems.append(f"{name} is not a hook; {hint}")
            continue
        ordering = [option for option in _ORDERING if options.get(option)]
        if ordering:
            problems.append(f"{name} asks for {ordering[0]}; remove it: the order of the TOML is the only order")
            continue
        if options.get("specname"):
            problems.append(f"{name} gives a specname; name the method after the hook instead")
        problems.extend(f"{name} {problem}" for problem in _signature_problems(plugin, name))
    return problems


def _signature_problems(plugin: type, name: str) -> Iterator[str]:
    method: Any = getattr(plugin, name)
    function = inspect.unwrap(method)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        yield "is a generator; return the verdict instead"
    elif name in _STRATEGIES and inspect.iscoroutinefunction(function):
        yield "is async; it must be synchronous"
    parameters = list(inspect.signature(method).parameters.values())
    if inspect.isfunction(method) and not isinstance(inspect.getattr_static(plugin, name), staticmethod):
        del parameters[:1]  # self
    arguments = HOOKS[name]
    expected = f"its signature is {name}({', '.join(arguments)})"
    for parameter in parameters:
        if parameter.name not in arguments:
            yield f"takes {parameter.name}, which the hook does not give; {expected}"
        elif parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield f"takes {parameter.name} as keyword-only or positional-only; {expected}"
        elif parameter.default is not parameter.empty:
            yield f"gives {parameter.name} a default, so pluggy would never pass it; {expected}"
