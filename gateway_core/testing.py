"""Test kit for plugins: makes calls, results, upstreams and conflicts for hooks, and runs hooks and calls.

`run_hook` runs one hook of one plugin. `run_call` sends a call through the gateway's pipeline with several plugins to
a `FakeUpstream`, without a network. The gateway itself uses nothing from this module.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, cast

from msgspec import Raw

from gateway_core.api import (
    Call,
    CallResult,
    Claim,
    ClientCertificate,
    Credentials,
    Era,
    Kind,
    PluginConfig,
    Principal,
    Tool,
    ToolConflict,
    Transport,
    UpstreamFacts,
    UpstreamState,
    UpstreamView,
)
from gateway_core.catalog import Target
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.config import ProxyConfig
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import HOOKS, Chain, LoadedPlugin
from gateway_core.hooks.loader import construct
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CALLS,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    NAME_MEMBERS,
    TASKS_EXTENSION,
)
from gateway_core.mcp.read_only import read_only
from gateway_core.pipeline.params import ARGUMENTS_KEY
from gateway_core.pipeline.pipeline import Pipeline
from gateway_core.upstream.requests import Request
from gateway_core.upstream.upstream import Upstream

__all__ = [
    "FakeUpstream",
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
) -> Call:
    """A call as a plugin gets it. `principal`: also the id of one that is not verified.

    A `tools/call` has a catalog entry served by `upstreams`, unless `known` is false.
    """
    tool = None
    if method == "tools/call" and known:
        definition: dict[str, Any] = {"name": name, "inputSchema": {"type": "object"}}
        if annotations is not None:
            definition["annotations"] = dict(annotations)
        tool = Tool(name, name, read_only(definition), tuple(upstreams))
    raw = b"" if arguments is None else jsonrpc.encode(arguments)
    sender = Principal(principal) if isinstance(principal, str) else principal
    return Call(method, name, sender, era, "exchange", raw_arguments=raw, tool=tool)


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


def make_result(text: str = "ok", *, is_error: bool = False, upstream: str | None = "upstream") -> CallResult:
    """A tool result with one text block, as if `upstream` had sent it."""
    made = CallResult.text(text, is_error=is_error)
    return CallResult(raw=made.raw, outcome=made.outcome, upstream=upstream, era="modern")


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


class FakeUpstream:
    """An upstream without a network: records each call in `calls` and answers it as `answer` says."""

    def __init__(
        self, answer: CallResult | RpcError | Callable[[Call], CallResult] | str = "ok", *, delay: float = 0.0
    ) -> None:
        """`answer`: a text, a complete result, an error, or a function that returns the result of a call.

        `delay`: seconds from receiving the call until answering it.
        """
        self.answer = answer
        self.delay = delay
        self.calls: list[Call] = []

    def serve(self, call: Call) -> CallResult:
        """Record `call` and answer it."""
        self.calls.append(call)
        if isinstance(self.answer, str):
            return make_result(self.answer)
        if isinstance(self.answer, RpcError):
            return CallResult.failed(self.answer, upstream="upstream")
        return self.answer if isinstance(self.answer, CallResult) else self.answer(call)


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


async def run_call(call: Call, upstream: FakeUpstream, *plugins: object, timeout: float = 60.0) -> CallResult:
    """Send a call to an upstream through the gateway's pipeline, with the plugins in the given order.

    Returns what the agent would get, without the members that its protocol revision adds to every result. `plugins` are
    classes, instances, or results of `configured`. A call that a plugin renames finds a tool of that name. A call made
    with `known=False` ends as an unknown tool, unless a plugin answers it. The call ends after `timeout` seconds and
    is written to the access log.
    """
    loaded = [plugin if isinstance(plugin, LoadedPlugin) else configured(plugin) for plugin in plugins]
    config = ProxyConfig(timeout=timeout, max_timeout=max(timeout, 300.0))
    async with Chain(loaded) as chain:
        catalog, router = _FakeCatalog(call, upstream, timeout), _FakeRouter(call, upstream)
        pipeline = Pipeline(config, cast(Any, catalog), cast(Any, router), chain, _nothing_to_wait_for)
        result = await pipeline.call(_exchange(call), _params(call))
    if router.failure is not None:
        raise router.failure
    return result if catalog.ended is None or result.error is not None else catalog.ended


def _exchange(call: Call) -> Exchange:
    version = LATEST_MODERN_VERSION if call.era == "modern" else LATEST_HANDSHAKE_VERSION
    capabilities = jsonrpc.encode({"extensions": {TASKS_EXTENSION: {}}})
    return Exchange(
        Agent(call.principal, call.era, version, capabilities=capabilities), call.method, id=call.exchange_id
    )


def _params(call: Call) -> dict[str, Raw]:
    """The params of a request that leads to `call`."""
    members: dict[str, Raw] = {}
    if call.method in NAME_MEMBERS:
        members[NAME_MEMBERS[call.method]] = Raw(jsonrpc.encode(call.name))
    elif call.method == "completion/complete":
        members["ref"] = Raw(jsonrpc.encode({"type": "ref/prompt", "name": call.name}))
    if call.raw_arguments:
        members[ARGUMENTS_KEY.get(call.method, "arguments")] = Raw(call.raw_arguments)
    if call.raw_meta:
        members["_meta"] = Raw(call.raw_meta)
    return members


async def _nothing_to_wait_for() -> bool:
    return False


class _Place:
    """The upstream of every `Target` of the fake catalog."""

    name: Final = "upstream"
    facts: Final = UpstreamFacts("upstream", "http", state=UpstreamState.HEALTHY)

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout


class _FakeCatalog:
    """The part of the catalog that the pipeline uses; every name leads to the one upstream."""

    snapshot: Final = Snapshot(linking={"upstream": frozenset()})

    def __init__(self, given: Call, upstream: FakeUpstream, timeout: float) -> None:
        self._given = given
        self._upstream = upstream
        self._upstreams = (cast(Upstream, _Place(timeout)),)
        self.tasks: Final = self
        self.ended: CallResult | None = None
        """The result of the call, after the plugins."""

    def seen_by(self, principal: str) -> None:
        """None, so that the pipeline looks up every call and keeps no call plan."""

    def tool(self, name: str, principal: str) -> Target | None:
        given = self._given
        tool = given.tool if name == given.name else make_call(name).tool
        return None if tool is None else Target(tool.original_name, self._upstreams, tool)

    def prompt(self, name: str, principal: str) -> Target:
        return Target(name, self._upstreams)

    resource = template = prompt

    def find(self, principal: Principal, task_id: str) -> Target:
        """The one upstream, for any task id."""
        return Target(task_id, self._upstreams)

    def translated(self, call: Call, target: Target, result: CallResult) -> CallResult:
        """The result unchanged: task ids are the same on both sides."""
        return result

    async def linked(self, exchange: Exchange, result: CallResult) -> CallResult:
        """The result unchanged. The pipeline calls this once, after the last plugin; it records the result."""
        self.ended = result
        return result

    def page(self, method: str, era: Era, cursor: str | None, principal: str) -> bytes:
        """A list result, which also comes from the upstream."""
        result = self._upstream.serve(self._given)
        if result.error is not None:
            raise result.error
        return result.raw


class _FakeRouter:
    """The part of the router that the pipeline uses; every call goes to the one upstream."""

    def __init__(self, given: Call, upstream: FakeUpstream) -> None:
        self._given = given
        self._upstream = upstream
        self.failure: Exception | None = None
        """The exception of `FakeUpstream.serve`: a mistake in the test."""

    async def dispatch(
        self, call: Call, exchange: Exchange, target: Target, request: Request
    ) -> tuple[CallResult, None]:
        given = self._given
        exchange.attempt(target.upstreams[0].name)
        exchange.mark_sent()
        is_rewritten = call.name != given.name or call.raw_arguments != given.raw_arguments
        try:
            result = self._upstream.serve(call if is_rewritten else given)
        except Exception as error:
            self.failure = error
            raise
        if self._upstream.delay:
            await asyncio.sleep(self._upstream.delay)
        return result, None
