"""The kit refuses what the gateway refuses, checks verdicts, and routes calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from gateway_core import (
    Call,
    CallResult,
    CallTrace,
    Health,
    Pass,
    PluginConfig,
    Principal,
    Reject,
    UpstreamView,
    hookimpl,
)
from gateway_core.errors import PLUGIN_FAILED, UPSTREAM_UNAVAILABLE, PluginError, RpcError
from gateway_core.hooks import HOOKS
from gateway_core.testing import (
    FakeUpstream,
    configured,
    make_authentication_ended,
    make_begun,
    make_call,
    make_call_ended,
    make_conflict,
    make_credentials,
    make_result,
    make_upstream,
    make_upstream_changed,
    run_call,
    run_hook,
)

CANDIDATES = [make_upstream("one"), make_upstream("two")]
MAKERS: dict[str, tuple[Any, ...]] = {
    "call": (make_call(),),
    "candidates": (CANDIDATES,),
    "conflict": (make_conflict(),),
    "result": (make_result(),),
    "upstream": (make_upstream(),),
    "credentials": (make_credentials("Bearer x"),),
    "event": (make_call_ended(), make_authentication_ended(), make_upstream_changed()),
    "begun": (make_begun(),),
}
"""Argument of a hook -> what the kit makes for it."""


def of(hook: str, verdict: Any) -> type:
    """A plugin whose only hook returns a verdict."""

    def function(self: object) -> Any:
        return verdict

    function.__name__ = hook
    return type("Plugin", (), {hook: hookimpl(function)})


# What the gateway would not load


class Unmarked:
    def before_call(self, call: Call) -> Reject:
        return Reject("no")


class Misspelt:
    @hookimpl
    def before_call(self, request: Call) -> None: ...


class Ordered:
    @hookimpl(tryfirst=True)
    def before_call(self, call: Call) -> None: ...


class Asynchronous:
    @hookimpl
    async def route_tool(self) -> None: ...


class Nothing:
    pass


class Elsewhere:
    methods = ("tools/cal",)

    @hookimpl
    def before_call(self) -> None: ...


class Reserved:
    class Config(PluginConfig):
        name: str = ""

    @hookimpl
    def before_call(self) -> None: ...


REFUSED = [
    (Unmarked, "its method before_call has a hook's name but no @hookimpl above it"),
    (Misspelt, "before_call takes request, which the hook does not give"),
    (Ordered, "before_call asks for tryfirst"),
    (Asynchronous, "route_tool is async"),
    (Nothing, "has no method marked @hookimpl"),
    (Elsewhere, "its methods name 'tools/cal'"),
    (Reserved, "its Config has the setting name, which the gateway reads itself"),
]


@pytest.mark.parametrize(("plugin", "problem"), REFUSED)
@pytest.mark.parametrize("made", [False, True])
async def test_a_plugin_that_the_gateway_would_not_load_is_refused(plugin: type, problem: str, *, made: bool) -> None:
    given = plugin() if made else plugin
    hook = next((name for name in HOOKS if hasattr(plugin, name)), "before_call")
    for run in (lambda: configured(given), lambda: run_hook(given, hook, *(MAKERS[it][0] for it in HOOKS[hook]))):
        with pytest.raises(PluginError, match="the gateway would not load the plugin") as refused:
            run()
        assert problem in str(refused.value)
    upstream = FakeUpstream()
    with pytest.raises(PluginError):
        await run_call(make_call(), upstream, given)
    assert upstream.calls == []


async def test_what_must_refuse_when_it_fails_cannot_be_ignored_and_a_strategy_is_not_shared() -> None:
    with pytest.raises(PluginError, match="must refuse when it fails"):
        configured(of("authenticate", None), on_error="ignore")
    router = of("route_tool", None)
    with pytest.raises(PluginError, match="a and b implement route_tool"):
        await run_call(make_call(), FakeUpstream(), configured(router, name="a"), configured(router, name="b"))


def test_an_instance_can_only_name_fewer_methods_than_its_class() -> None:
    class Fewer:
        methods: tuple[str, ...] = ("tools/call", "tools/list")

        @hookimpl
        def before_call(self) -> None: ...

        def __init__(self) -> None:
            self.methods = ("tools/list",)

    assert configured(Fewer()).methods == frozenset({"tools/list"})


def test_a_hook_that_a_plugin_does_not_have_and_arguments_that_are_missing_are_mistakes_in_the_test() -> None:
    with pytest.raises(ValueError, match="before_cal is no hook; the hooks are route_tool"):
        run_hook(of("before_call", None), "before_cal", make_call())
    with pytest.raises(ValueError, match="the plugin Plugin does not implement after_call"):
        run_hook(of("before_call", None), "after_call", make_call(), make_result())
    with pytest.raises(TypeError, match=re.escape("run_hook(plugin, 'after_call', call, result)")):
        run_hook(of("after_call", None), "after_call", make_call())


# Verdicts


@pytest.mark.parametrize(
    ("hook", "verdict", "problem"),
    [
        ("before_call", "no", "returned a str instead of None, a Call"),
        ("before_call", Reject("no", retry_after=-1), "retry_after is no number of seconds"),
        ("before_call", make_call("other"), "returned a Call that was not made with call.replace()"),
        ("after_call", Reject("no"), "returned a Reject instead of None or a CallResult"),
        ("route_tool", "a", "returned a str that is not one of the candidates"),
        ("route_tool", make_upstream("one"), "is not one of the candidates"),
        ("resolve_conflict", {"a": "b"}, "returned a claim that is not one of the conflict's"),
        ("check_health", True, "returned a bool instead of a Health"),
        ("authenticate", Principal("alice"), "was not made with Principal.proven()"),
        ("observe", 5, "returned a int instead of None"),
        ("trace_call", 5, "returned a int instead of None, a dict or a CallTrace"),
        ("trace_call", {"traceparent": "a\nb"}, "failed in trace_call"),
    ],
)
def test_a_verdict_that_the_gateway_takes_for_a_failure_is_refused(hook: str, verdict: Any, problem: str) -> None:
    with pytest.raises(PluginError, match=f"failed in {hook}: ") as refused:
        run_hook(of(hook, verdict), hook, *(MAKERS[name][0] for name in HOOKS[hook]))
    assert problem in str(refused.value)


CALL, CONFLICT = make_call(), make_conflict()


@pytest.mark.parametrize(
    ("hook", "verdict", "given"),
    [
        ("before_call", Pass("rule"), [CALL]),
        ("before_call", CALL.replace(name="other"), [CALL]),
        ("before_call", CallResult.text("done"), [CALL]),
        ("after_call", CallResult.text("done"), [CALL, make_result()]),
        ("route_tool", CANDIDATES[1], [CALL, CANDIDATES]),
        ("resolve_conflict", {"search": CONFLICT.claims[0]}, [CONFLICT]),
        ("check_health", Health(healthy=True), [make_upstream()]),
        ("authenticate", Principal.proven("alice", issuer="keys"), [make_credentials()]),
        ("trace_call", CallTrace(), [make_begun()]),
        ("trace_call", {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, [make_begun()]),
    ],
)
def test_a_valid_verdict_is_returned(hook: str, verdict: Any, given: Sequence[Any]) -> None:
    assert run_hook(configured(of(hook, verdict)), hook, *given) is verdict


# Routing


class LeastBusy:
    @hookimpl
    def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView:
        return min(candidates, key=lambda upstream: upstream.in_flight)


async def test_a_call_with_several_upstreams_goes_where_route_tool_says() -> None:
    upstreams = [
        make_upstream("busy", in_flight=3),
        make_upstream("idle", state="idle"),
        make_upstream("x", in_flight=1),
    ]
    upstream = FakeUpstream()
    result = await run_call(make_call("add", upstreams=upstreams), upstream, LeastBusy)
    assert (result.upstream, upstream.chosen) == ("idle", ["idle"])
    await run_call(make_call("add", upstreams=["one", "two"]), upstream)
    assert upstream.chosen[1:] == ["one"], "the core takes the first"


async def test_route_tool_is_asked_about_the_healthy_upstreams_only() -> None:
    upstream, asked = FakeUpstream(), []

    class Asked(LeastBusy):
        @hookimpl
        def route_tool(self, call: Call, candidates: Sequence[UpstreamView]) -> UpstreamView:
            asked.append([one.name for one in candidates])
            return candidates[-1]

    upstreams = [make_upstream("one"), make_upstream("down", healthy=False), make_upstream("two")]
    await run_call(make_call(upstreams=upstreams), upstream, Asked)
    await run_call(make_call(upstreams=upstreams[:2]), upstream, Asked)
    assert (asked, upstream.chosen) == ([["one", "two"]], ["two", "one"])
    none = await run_call(make_call(upstreams=upstreams[1:2]), upstream, Asked)
    assert none.error is not None
    assert (none.error.code, none.outcome) == (UPSTREAM_UNAVAILABLE, "unavailable")
    assert len(upstream.calls) == 2


async def test_a_router_that_fails_refuses_the_call() -> None:
    refused = await run_call(make_call(upstreams=["one", "two"]), FakeUpstream(), of("route_tool", "one"))
    assert refused.error is not None
    assert refused.error.code == PLUGIN_FAILED


async def test_errors_and_texts_come_from_the_upstream_that_was_chosen() -> None:
    failed = await run_call(make_call(upstreams=["one"]), FakeUpstream(RpcError(-32000, "broken")))
    assert failed.upstream == "one"
    traced = FakeUpstream()
    assert (
        await run_call(make_call(upstreams=["one", "two"]), traced, of("trace_call", CallTrace()))
    ).upstream == "one"
