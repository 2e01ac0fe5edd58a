"""Runs hooks and calls with plugins that the gateway would load, and refuses the others."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from typing import Any, Literal, cast

from msgspec import Raw

from gateway_core.api import Call, CallResult, Outcome, Pass, PluginConfig
from gateway_core.config import ProxyConfig
from gateway_core.errors import PluginError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.exchange.hops import Carried, WrongContext
from gateway_core.hooks import HOOKS, Chain, LoadedPlugin
from gateway_core.hooks.authenticators import call_headers, checked_identity
from gateway_core.hooks.checks.classes import STRATEGIES, class_problems, config_problems, instance_problems, methods_of
from gateway_core.hooks.failures import Misuse
from gateway_core.hooks.implementations import implementations
from gateway_core.hooks.loader import construct
from gateway_core.hooks.observers import check_nothing
from gateway_core.hooks.tracing.tracing import checked_trace
from gateway_core.hooks.verdicts import checked_choice, checked_health, checked_names, judge, sound
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    NAME_MEMBERS,
    SUBSCRIBE,
    TASKS_EXTENSION,
)
from gateway_core.pipeline.params import ARGUMENTS_KEY
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.testing.fakes import FakeCatalog, FakeRouter, FakeUpstream, GivenHeaders
from gateway_core.testing.users import FakeBack, FakeUser, UserBack


def configured(
    plugin: object,
    *,
    name: str | None = None,
    on_error: Literal["reject", "ignore"] = "reject",
    **settings: Any,
) -> LoadedPlugin:
    """A loaded plugin. `plugin` is an instance, or a class that is constructed here with `settings`.

    Raises `PluginError` for a plugin that the gateway would not load, pydantic's `ValidationError` for settings that
    its `Config` rejects, and `TypeError` for settings with an instance.
    """
    kind: type = plugin if inspect.isclass(plugin) else type(plugin)
    package = kind.__module__.partition(".")[0]
    default = package.removeprefix("gateway_") if package.startswith("gateway_") else kind.__name__
    name = name or default
    problems = [*class_problems(kind, on_error), *config_problems(kind)]
    methods = methods_of(kind, problems.append)
    if problems:
        raise _refused(name, problems)
    if inspect.isclass(plugin):
        config: PluginConfig = getattr(plugin, "Config", PluginConfig)(**settings)
        plugin = construct(plugin, config)
    elif settings:
        raise TypeError("settings are for a class; this plugin is made already")
    problems = [*instance_problems(plugin, methods)]
    methods &= methods_of(plugin, problems.append)
    if problems:
        raise _refused(name, problems)
    marked = dict(implementations(kind))
    hooks = tuple(hook for hook in HOOKS if hook in marked)
    return LoadedPlugin(name, plugin, "0", "test", hooks, on_error, methods)


def _refused(name: str, problems: Sequence[str]) -> PluginError:
    return PluginError("\n".join(f"the gateway would not load the plugin {name}: {problem}" for problem in problems))


def run_hook(plugin: object, hook: str, *arguments: Any) -> Any:
    """Run one hook of a plugin and return its verdict, which is checked as the gateway does.

    `plugin`: an instance, a class with default settings, or a result of `configured`. This function is synchronous for
    every hook: call it from a plain test function. Pass all arguments of the hook, even if the implementation takes
    fewer. The hook gets `call` itself, so the test and later hooks see what it stores in `call.state`.

    Raises `PluginError` for a plugin that the gateway would not load, and for a verdict that it would take for a
    failure of the plugin.
    """
    loaded = _loaded(plugin)
    if hook not in HOOKS:
        raise ValueError(f"{hook} is no hook; the hooks are {', '.join(HOOKS)}")
    if hook not in loaded.hooks:
        raise ValueError(f"the plugin {loaded.name} does not implement {hook}")
    if len(arguments) != len(HOOKS[hook]):
        raise TypeError(f"pass all arguments of the hook: run_hook(plugin, {hook!r}, {', '.join(HOOKS[hook])})")
    function = getattr(loaded.instance, hook)
    if isinstance(arguments[0], Call):
        names = call_headers([loaded]).get(loaded.name, ())
        arguments[0].present(GivenHeaders(GivenHeaders.of(arguments[0]).fields, names))
    given = dict(zip(HOOKS[hook], arguments, strict=True))
    verdict = function(*[given[name] for name in inspect.signature(function).parameters])
    if inspect.isawaitable(verdict):
        verdict = asyncio.run(_awaited(verdict))
    try:
        _check(hook, arguments, verdict)
    except Misuse as problem:
        raise PluginError(f"the plugin {loaded.name} failed in {hook}: {problem}") from None
    return verdict


async def _awaited(verdict: Awaitable[Any]) -> Any:
    return await verdict


def _loaded(plugin: object) -> LoadedPlugin:
    return plugin if isinstance(plugin, LoadedPlugin) else configured(plugin)


def _check(hook: str, given: Sequence[Any], verdict: Any) -> None:
    """Raise `Misuse` unless the verdict of a hook is valid. `given`: the arguments of the hook."""
    if verdict is None:
        return
    match hook:
        case "before_call":
            if verdict.__class__ is not Pass:
                judge(given[0], verdict, lambda call: call)
        case "after_call":
            sound(verdict, given[1])
        case "route_tool":
            checked_choice(given[1], verdict)
        case "resolve_conflict":
            checked_names(given[0], verdict)
        case "check_health":
            checked_health(verdict)
        case "authenticate":
            checked_identity(verdict)
        case "observe":
            check_nothing(verdict)
        case "trace_call":
            _check_trace(verdict)


def _check_trace(verdict: Any) -> None:
    if not isinstance(verdict, dict):
        checked_trace(verdict)
    elif verdict:
        try:
            Carried.of(verdict)
        except WrongContext as problem:
            raise Misuse(str(problem)) from None


async def run_call(
    call: Call, upstream: FakeUpstream, *plugins: object, timeout: float = 60.0, user: FakeUser | None = None
) -> CallResult:
    """Send a call to an upstream through the gateway's pipeline, with the plugins in the given order.

    Returns what the agent would get, without the members that its protocol revision adds to every result. `plugins` are
    classes, instances, or results of `configured`. A call that a plugin renames finds a tool of that name. A call made
    with `known=False` ends as an unknown tool, unless a plugin answers it. The call ends after `timeout` seconds and
    is written to the access log.

    `upstream` answers for all upstreams of the call. If several of them are healthy or idle, `route_tool` chooses one,
    and `upstream.chosen` has its name. Without any, the call ends as unavailable.

    `user` answers the questions of plugins; a modern agent then sends the call again. Without a user, the agent cannot
    be asked. Raises `PluginError` for plugins that the gateway would not load.
    """
    loaded = [_loaded(plugin) for plugin in plugins]
    for hook in STRATEGIES:
        owners = [plugin.name for plugin in loaded if hook in plugin.hooks]
        if len(owners) > 1:
            raise PluginError(f"{' and '.join(owners)} implement {hook}; only one plugin may")
    config = ProxyConfig(timeout=timeout, max_timeout=max(timeout, 300.0))
    async with Chain(loaded) as chain:
        catalog, router = FakeCatalog(call, upstream, timeout), FakeRouter(call, upstream, config, chain)
        pipeline = Pipeline(config, cast(Any, catalog), cast(Any, router), chain, _nothing_to_wait_for)
        answer = router.subscribed if call.method == SUBSCRIBE else None
        params = _params(call)
        result = await pipeline.call(_exchange(call, user), params, answer)
        while result.outcome is Outcome.ASKED and user is not None:
            result = await pipeline.call(_exchange(call, user), params | user.retry(result))
    failure = router.failure or (None if user is None else user.failure)
    if failure is not None:
        raise failure
    return result if catalog.ended is None or result.error is not None else catalog.ended


def _exchange(call: Call, user: FakeUser | None) -> Exchange:
    version = LATEST_MODERN_VERSION if call.era == "modern" else LATEST_HANDSHAKE_VERSION
    declared: dict[str, Any] = {"extensions": {TASKS_EXTENSION: {}}}
    if user is not None:
        declared["elicitation"] = {"form": {}, "url": {}}
    agent = Agent(call.principal, call.era, version, capabilities=jsonrpc.encode(declared), session_key=call.session)
    fields = GivenHeaders.of(call).fields
    back = UserBack(user, fields) if user is not None and call.era == "legacy" else FakeBack(fields)
    return Exchange(agent, call.method, back, id=call.exchange_id, generation=call.generation)


def _params(call: Call) -> dict[str, Raw]:
    """The params of a request that leads to `call`."""
    members: dict[str, Raw] = {}
    if call.method in NAME_MEMBERS or call.method == SUBSCRIBE:
        members[NAME_MEMBERS.get(call.method, "uri")] = Raw(jsonrpc.encode(call.name))
    elif call.method == "completion/complete":
        ref = {"type": "ref/prompt", "name": call.name}
        if not call.of_prompt:
            ref = {"type": "ref/resource", "uri": call.name}
        members["ref"] = Raw(jsonrpc.encode(ref))
    if call.raw_arguments:
        members[ARGUMENTS_KEY.get(call.method, "arguments")] = Raw(call.raw_arguments)
    if call.raw_meta:
        members["_meta"] = Raw(call.raw_meta)
    return members


async def _nothing_to_wait_for(*_: object, **__: object) -> bool:
    return False
