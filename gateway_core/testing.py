"""For the tests of plugins: calls, results, upstreams and conflicts to hand to hooks, and ways to run them.

`run_hook` runs one hook of one plugin. `run_call` sends a call through several plugins, as the gateway would, to a
`FakeUpstream`, without any network. Nothing here is used by the gateway itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from msgspec.structs import replace

from gateway_core import jsonrpc
from gateway_core.chain import HOOKS, Chain, ChainProgress, LoadedPlugin
from gateway_core.errors import RpcError, retry_after
from gateway_core.plugins import construct
from gateway_core.protocol import CALLS
from gateway_core.read_only import read_only
from gateway_core.types import (
    Call,
    CallResult,
    Claim,
    Era,
    Kind,
    Outcome,
    PluginConfig,
    Principal,
    Reject,
    Tool,
    ToolConflict,
    Transport,
    UpstreamFacts,
    UpstreamState,
    UpstreamView,
)

__all__ = [
    "FakeUpstream",
    "configured",
    "make_call",
    "make_conflict",
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
    principal: str = "agent@127.0.0.1",
    era: Era = "modern",
    annotations: Mapping[str, Any] | None = None,
    upstreams: Sequence[str] = ("upstream",),
    known: bool = True,
) -> Call:
    """A call as a plugin gets it. A `tools/call` has a catalog entry served by `upstreams`, unless `known` is false."""
    tool = None
    if method == "tools/call" and known:
        definition: dict[str, Any] = {"name": name, "inputSchema": {"type": "object"}}
        if annotations is not None:
            definition["annotations"] = dict(annotations)
        tool = Tool(name, name, read_only(definition), tuple(upstreams))
    raw = b"" if arguments is None else jsonrpc.encode(arguments)
    return Call(method, name, Principal(principal), era, "exchange", raw_arguments=raw, tool=tool)


def make_result(text: str = "ok", *, is_error: bool = False, upstream: str | None = "upstream") -> CallResult:
    """A tool's result of one text block, as `upstream` would have sent it."""
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
    """A name and its claims, each an upstream or several that share one definition. Without any: two upstreams."""
    given = claims or (make_upstream("first", order=0), make_upstream("second", order=1))
    made = []
    for number, owners in enumerate(given):
        upstreams = (owners,) if isinstance(owners, UpstreamView) else tuple(owners)
        definition = read_only({"name": name, "description": f"definition {number}"})
        made.append(Claim(name, definition, upstreams))
    return ToolConflict(kind, name, tuple(made), separator)


class FakeUpstream:
    """An upstream without a network: records the calls that reach it in `calls`, and answers each the same way."""

    def __init__(self, answer: CallResult | RpcError | Callable[[Call], CallResult] | str = "ok") -> None:
        """`answer`: a text, a whole result, an error, or a function that makes a result of the call."""
        self.answer = answer
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
    """A plugin as the gateway holds it: `plugin` is its class, made here with `settings`, or a ready instance.

    Raises pydantic's `ValidationError` for settings that its `Config` refuses.
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
    """Run one hook of a plugin (a class, made with its default settings, or an instance) and return its verdict.

    Synchronous for both kinds of hooks: call it from a plain test function. `after_call` may get the result even
    if it leaves that parameter out. `call.state` is kept between two runs on one call.
    """
    instance = configured(plugin).instance
    function = getattr(instance, hook)
    given = dict(zip(HOOKS[hook], arguments, strict=True))
    wanted = [given[name] for name in inspect.signature(function).parameters]
    verdict = function(*wanted)
    return asyncio.run(_awaited(verdict)) if inspect.isawaitable(verdict) else verdict


def _with_tool(call: Call) -> Call:
    return replace(call, tool=make_call(call.name, method=call.method).tool) if call.tool is None else call


async def _awaited(verdict: Awaitable[Any]) -> Any:
    return await verdict


async def run_call(call: Call, upstream: FakeUpstream, *plugins: object) -> CallResult:
    """Send a call through plugins, in this order, to an upstream; returns what the agent would get.

    `plugins` are classes, instances, or what `configured` made of them. A call under a new name finds
    a tool of that name.
    """
    loaded = [plugin if isinstance(plugin, LoadedPlugin) else configured(plugin) for plugin in plugins]
    async with Chain(loaded) as chain:
        passed, given = ChainProgress(), call
        call, verdict = await chain.run_before(call, _with_tool, passed)
        if call.name == given.name and call.raw_arguments is given.raw_arguments:
            call = given  # no plugin rewrote it
        if isinstance(verdict, Reject):
            data = {} if verdict.retry_after is None else retry_after(verdict.retry_after)
            error = RpcError.of_gateway(verdict.code, verdict.message, **data)
            verdict = CallResult.failed(error, Outcome.REFUSED)
        return await chain.run_after(passed, upstream.serve(call) if verdict is None else verdict)
