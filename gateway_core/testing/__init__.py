"""Test kit for plugins: makes calls, results, upstreams and conflicts for hooks, and runs hooks and calls.

`run_hook` runs one hook of one plugin. `run_call` sends a call through the gateway's pipeline with several plugins to
a `FakeUpstream`, without a network; a `FakeUser` answers the questions of plugins. The gateway itself uses nothing from
this module.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Literal, cast

from msgspec import Raw

from gateway_core.api import (
    Answer,
    Call,
    CallResult,
    Claim,
    ClientCertificate,
    Credentials,
    Era,
    Kind,
    Outcome,
    PluginConfig,
    Principal,
    Published,
    ToolConflict,
    Transport,
    UpstreamFacts,
    UpstreamState,
    UpstreamView,
)
from gateway_core.config import ProxyConfig
from gateway_core.exchange.back import NO_BACK
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import HOOKS, Chain, LoadedPlugin
from gateway_core.hooks.loader import construct
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CALLS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    LISTS,
    NAME_MEMBERS,
    SUBSCRIBE,
    TASKS_EXTENSION,
)
from gateway_core.mcp.read_only import read_only
from gateway_core.pipeline.params import ARGUMENTS_KEY
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.testing.fakes import FakeCatalog, FakeRouter, FakeUpstream, Place, Served, make_result, make_tool
from gateway_core.testing.users import FakeUser, UserBack, answered

__all__ = [
    "FakeUpstream",
    "FakeUser",
    "configured",
    "make_call",
    "make_conflict",
    "make_credentials",
    "make_result",
    "make_upstream",
    "run_call",
    "run_hook",
]


def make_call(
    name: str = "echo",
    arguments: Mapping[str, Any] | None = None,
    *,
    method: str = "tools/call",
    principal: str | Principal = "agent@127.0.0.1",
    era: Era = "modern",
    annotations: Mapping[str, Any] | None = None,
    upstreams: Sequence[str] = ("upstream",),
    known: bool = True,
    original_name: str | None = None,
    listed: Sequence[Published] = (),
    session: str = "",
    answers: Mapping[str, Answer] | None = None,
    answered_by: str = "",
    meta: Mapping[str, Any] | None = None,
) -> Call:
    """A call as a plugin gets it. `principal`: also the id of one that is not verified.

    Its name is served by `upstreams`, under `original_name` if that differs, unless `known` is false. A `tools/call`
    then has a catalog entry. `listed`: for a list method, the names in the list. `answers`: to the questions of the
    plugin about this call, by the names of the questions. `answered_by`: who gave them on a page, the id of a
    principal. `meta`: its `_meta`.
    """
    original = name if original_name is None else original_name
    tool = None
    if method == "tools/call" and known:
        tool = make_tool(name, original, annotations, tuple(upstreams))
    raw = b"" if arguments is None else jsonrpc.encode(arguments)
    sender = Principal(principal) if isinstance(principal, str) else principal
    served = Served(original, tuple(map(Place, upstreams))) if known and method not in LISTS else None
    call = Call(
        method,
        name,
        sender,
        era,
        "exchange",
        raw,
        b"" if meta is None else jsonrpc.encode(meta),
        tool=tool,
        _served=served,
        listed=read_only({entry.name: entry for entry in listed}),
        of_prompt=method == "completion/complete",
        session=session,
    )
    return call if answers is None else answered(call, answers, answered_by)


def make_credentials(
    authorization: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    certificate: ClientCertificate | None = None,
    address: str = "127.0.0.1",
) -> Credentials:
    """The credentials of a request as `authenticate` gets them. `authorization`: the value of that header."""
    given = {name.lower(): value for name, value in (headers or {}).items()}
    if authorization is not None:
        given["authorization"] = authorization
    return Credentials(read_only(given), certificate, address)


def make_upstream(
    name: str = "upstream",
    *,
    priority: int = 1,
    healthy: bool = True,
    order: int = 0,
    transport: Transport = "http",
    url: str | None = None,
    group: str | None = None,
    era: Era | None = "modern",
    in_flight: int = 0,
    latency: float | None = None,
) -> UpstreamView:
    """An upstream as a plugin sees it. `order` is its place in the configuration file."""
    state = UpstreamState.HEALTHY if healthy else UpstreamState.DOWN
    return UpstreamView(
        UpstreamFacts(name, transport, url, priority, group, order, era, state, in_flight=in_flight, latency=latency)
    )


def make_conflict(
    name: str = "search",
    *claims: UpstreamView | Sequence[UpstreamView],
    kind: Kind = "tool",
    separator: str = "__",
) -> ToolConflict:
    """A name and its claims. A claim is one upstream, or several that share a definition. Default: two upstreams."""
    given = claims or (make_upstream("first", order=0), make_upstream("second", order=1))
    made = []
    for number, owners in enumerate(given):
        upstreams = (owners,) if isinstance(owners, UpstreamView) else tuple(owners)
        definition = read_only({"name": name, "description": f"definition {number}"})
        made.append(Claim(name, definition, upstreams))
    return ToolConflict(kind, name, tuple(made), separator)


def configured(
    plugin: object,
    *,
    name: str | None = None,
    on_error: Literal["reject", "ignore"] = "reject",
    **settings: Any,
) -> LoadedPlugin:
    """A loaded plugin. `plugin` is an instance, or a class that is constructed here with `settings`.

    Raises pydantic's `ValidationError` for settings that its `Config` rejects, and `TypeError` for settings with an
    instance.
    """
    if inspect.isclass(plugin):
        config: PluginConfig = getattr(plugin, "Config", PluginConfig)(**settings)
        plugin = construct(plugin, config)
    elif settings:
        raise TypeError("settings are for a class; this plugin is made already")
    kind = type(plugin)
    methods = frozenset(getattr(plugin, "methods", CALLS))
    hooks = tuple(hook for hook in HOOKS if hasattr(plugin, hook))
    package = kind.__module__.partition(".")[0]
    default = package.removeprefix("gateway_") if package.startswith("gateway_") else kind.__name__
    return LoadedPlugin(name or default, plugin, "0", "test", hooks, on_error, methods)


def run_hook(plugin: object, hook: str, *arguments: Any) -> Any:
    """Run one hook of a plugin (an instance, or a class with default settings) and return its verdict.

    This function is synchronous for every hook: call it from a plain test function. Pass all arguments of the hook,
    even if the implementation takes fewer. The hook gets `call` itself, so the test and later hooks see what it
    stores in `call.state`.
    """
    instance = configured(plugin).instance
    function = getattr(instance, hook)
    given = dict(zip(HOOKS[hook], arguments, strict=True))
    wanted = [given[name] for name in inspect.signature(function).parameters]
    verdict = function(*wanted)
    return asyncio.run(_awaited(verdict)) if inspect.isawaitable(verdict) else verdict


async def _awaited(verdict: Awaitable[Any]) -> Any:
    return await verdict


async def run_call(
    call: Call, upstream: FakeUpstream, *plugins: object, timeout: float = 60.0, user: FakeUser | None = None
) -> CallResult:
    """Send a call to an upstream through the gateway's pipeline, with the plugins in the given order.

    Returns what the agent would get, without the members that its protocol revision adds to every result. `plugins` are
    classes, instances, or results of `configured`. A call that a plugin renames finds a tool of that name. A call made
    with `known=False` ends as an unknown tool, unless a plugin answers it. The call ends after `timeout` seconds and
    is written to the access log.

    `user` answers the questions of plugins; a modern agent then sends the call again. Without a user, the agent cannot
    be asked.
    """
    loaded = [plugin if isinstance(plugin, LoadedPlugin) else configured(plugin) for plugin in plugins]
    config = ProxyConfig(timeout=timeout, max_timeout=max(timeout, 300.0))
    async with Chain(loaded) as chain:
        catalog, router = FakeCatalog(call, upstream, timeout), FakeRouter(call, upstream, config)
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
    back = UserBack(user) if user is not None and call.era == "legacy" else NO_BACK
    return Exchange(agent, call.method, back, id=call.exchange_id)


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
