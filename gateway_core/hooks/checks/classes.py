"""Checks the class of a plugin and its instance: hooks, optional attributes, whether it can be started."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final

from gateway_core.api import Plugin, PluginConfig
from gateway_core.config.sections import RESERVED
from gateway_core.hooks.implementations import HOOKS, implementations
from gateway_core.hooks.places import keys_of
from gateway_core.mcp.names import CALLS, PLUGIN_METHODS

STRATEGIES: Final = ("route_tool", "resolve_conflict", "trace_call")
"""Synchronous hooks that at most one enabled plugin may implement."""
ATTRIBUTES: Final = frozenset(
    {
        "after_call_reads_arguments",
        "call_headers",
        "challenges",
        "credential_headers",
        "fails_closed",
        "known_groups",
        "measures_hooks",
        "measures_loop_lag",
        "methods",
        "needs_client_certificates",
        "pages",
        "remember",
        "warnings",
        "well_known",
    }
)
"""Optional attributes of plugins. `Plugin` declares their types."""
METHODS: Final = frozenset({"allowances", "notes", "use_clock"})
"""Optional methods of plugins other than hooks."""
FLAGS: Final = (
    "after_call_reads_arguments",
    "fails_closed",
    "measures_hooks",
    "measures_loop_lag",
    "needs_client_certificates",
)
"""Those that are True or False."""
_ORDERING: Final = ("tryfirst", "trylast", "wrapper", "hookwrapper")
_CLOSE: Final = 0.85
"""How similar the name of an attribute is to one that the gateway reads if it is probably meant."""


def class_problems(plugin: type, on_error: str = "reject") -> list[str]:
    """What is wrong with the class of a plugin. `on_error`: as its entry in the file sets it."""
    problems = [*_hook_problems(plugin), *_attribute_problems(plugin), *_life_problems(plugin)]
    if on_error == "ignore":
        if "authenticate" in dict(implementations(plugin)):
            problems.append('implements authenticate, which must refuse when it fails; remove on_error = "ignore"')
        elif getattr(plugin, "fails_closed", False):
            problems.append('must refuse calls when it fails; remove on_error = "ignore"')
    return problems


def config_problems(plugin: type) -> Iterator[str]:
    """What is wrong with the model of a plugin's settings."""
    model = getattr(plugin, "Config", PluginConfig)
    if not (inspect.isclass(model) and issubclass(model, PluginConfig)):
        yield "its Config is not a subclass of gateway_core.PluginConfig"
        return
    for name in sorted(RESERVED.intersection(keys_of(model))):
        yield f"its Config has the setting {name}, which the gateway reads itself; rename it"


def instance_problems(instance: object, methods: frozenset[str]) -> Iterator[str]:
    """What is wrong with an instance. `methods`: those of its class, of which it may leave some out."""
    own: dict[str, Any] = getattr(instance, "__dict__", {})
    for name in FLAGS:
        if not isinstance(own.get(name, False), bool):
            yield f"its {name} must be True or False, not a {type(own[name]).__name__}"
    if "fails_closed" in own:
        yield "its constructor sets fails_closed, which is an attribute of the class; set it there"
    given = own.get("methods")
    if given is not None and (more := sorted(methods_of(instance, lambda _: None) - methods)):
        yield f"its constructor adds {', '.join(more)} to methods, which its class does not name; name them there"


def methods_of(plugin: object, problem: Callable[[str], None]) -> frozenset[str]:
    """The methods that a plugin, or its class, names. `problem` gets what is wrong with them."""
    given: Any = getattr(plugin, "methods", CALLS)
    if isinstance(given, str) or not isinstance(given, (frozenset, set, tuple, list)):
        problem(f"its methods must be a set or tuple of method names, not a {type(given).__name__}")
        return frozenset()
    known = [method for method in given if isinstance(method, str) and method in PLUGIN_METHODS]
    for method in given:
        if method not in known:
            problem(f"its methods name {method!r}, which is none of {', '.join(sorted(PLUGIN_METHODS))}")
    return frozenset(known)


def _hook_problems(plugin: type) -> Iterator[str]:
    marked = dict(implementations(plugin))
    unmarked = [name for name in HOOKS if name not in marked and inspect.isroutine(getattr(plugin, name, None))]
    for name in unmarked:
        yield f"its method {name} has a hook's name but no @hookimpl above it"
    if not marked and not unmarked:
        yield f"has no method marked @hookimpl; the hooks are {', '.join(HOOKS)}"
    for name, options in marked.items():
        if name not in HOOKS:
            close = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]}?" if close else f"the hooks are {', '.join(HOOKS)}"
            yield f"{name} is not a hook; {hint}"
            continue
        ordering = [option for option in _ORDERING if options.get(option)]
        if ordering:
            yield f"{name} asks for {ordering[0]}; remove it: the order of the TOML is the only order"
            continue
        if options.get("specname"):
            yield f"{name} gives a specname; name the method after the hook instead"
        for problem in _signature_problems(plugin, name):
            yield f"{name} {problem}"


def _signature_problems(plugin: type, name: str) -> Iterator[str]:
    method: Any = getattr(plugin, name)
    function = inspect.unwrap(method)
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        yield "is a generator; return the verdict instead"
    elif name in STRATEGIES and inspect.iscoroutinefunction(function):
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


def _attribute_problems(plugin: type) -> Iterator[str]:
    """Attributes whose names are nearly those of optional ones, and flags that are neither True nor False."""
    classes = [one for one in reversed(plugin.__mro__) if one not in (object, Plugin)]  # a subclass replaces its bases
    own = {name: value for one in classes for name, value in vars(one).items()}
    for name, value in own.items():
        if name.startswith("_") or name in HOOKS or name in ATTRIBUTES | METHODS or inspect.isclass(value):
            continue
        known = METHODS if inspect.isroutine(value) else ATTRIBUTES
        close = difflib.get_close_matches(name.casefold(), known - own.keys(), n=1, cutoff=_CLOSE)
        if close:
            yield (
                f"has {name}, which the gateway does not read; did you mean {close[0]}? "
                f"If it is for the plugin alone, call it _{name}"
            )
    for name in FLAGS:
        value = own.get(name, False)
        if not isinstance(value, bool | property):
            yield f"its {name} must be True or False, not a {type(value).__name__}"


def _life_problems(plugin: type) -> Iterator[str]:
    """Context managers that the gateway would not enter."""
    has = {name for name in ("__aenter__", "__aexit__", "__enter__", "__exit__") if hasattr(plugin, name)}
    if len(has & {"__aenter__", "__aexit__"}) == 1:
        (there,) = has & {"__aenter__", "__aexit__"}
        (lacking,) = {"__aenter__", "__aexit__"} - {there}
        yield f"has {there} but no {lacking}, so the gateway would not enter it; write both"
    elif has and "__aenter__" not in has:
        yield "is a context manager, but no asynchronous one; write __aenter__ and __aexit__"
