"""The runs of hooks of calls that are followed, with what the plugins did."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway_core import (
    Answer,
    Ask,
    Call,
    CallBegun,
    CallEnded,
    CallResult,
    CallTrace,
    HookStep,
    Pass,
    Reject,
    RpcError,
    hookimpl,
)
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, run_call


class Follows:
    """Follows the calls, and keeps how they ended."""

    def __init__(self) -> None:
        self.ended: list[CallEnded] = []

    @hookimpl
    def trace_call(self, begun: CallBegun) -> CallTrace:
        trace = CallTrace()
        trace.ended = self.ended.append  # type: ignore[method-assign]
        return trace

    def steps(self) -> list[tuple[Any, ...]]:
        """Plugin, hook, decision and rule of each run."""
        return [
            (step.plugin, step.hook, *((step.decision.decided, step.decision.rule) if step.decision else ()))
            for event in self.ended
            for step in event.steps
            if isinstance(step, HookStep)
        ]


class Decides:
    """`before_call` returns, or raises, this verdict."""

    def __init__(self, verdict: Any, *, waits: bool = False) -> None:
        self.verdict = verdict
        self.waits = waits

    @hookimpl
    def before_call(self, call: Call) -> Any:
        async def later() -> Any:
            await asyncio.sleep(0.01)
            return self.decide(call)

        return later() if self.waits else self.decide(call)

    def decide(self, call: Call) -> Any:
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict(call) if callable(self.verdict) else self.verdict


class Edits:
    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult:
        return CallResult.text("edited")


class Looks:
    @hookimpl
    async def before_call(self, call: Call) -> None: ...

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult:
        return result


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("verdict", "decided"),
    [
        (None, ()),
        (Pass("staff"), ("pass", "staff")),
        (Reject("no", rule="night"), ("refuse", "night")),
        (CallResult.text("cached"), ("answer", "")),
        (lambda call: call.replace(arguments={"a": 1}), ("rewrite", "")),
        (ValueError("a bug"), ("fail", "")),
        (lambda call: call.arguments["missing"], ("fail", "")),
        (RpcError(-1, "made by the plugin"), ("fail", "")),
        (lambda call: call, ()),
        (7, ()),
    ],
    ids=[
        "none",
        "pass",
        "refuse",
        "answer",
        "rewrite",
        "raises",
        "reads what is missing",
        "raises an error",
        "the call",
        "invalid",
    ],
)
async def test_each_run_of_a_hook_has_what_the_plugin_did(verdict: Any, decided: Sequence[str], waits: bool) -> None:
    follows = Follows()
    await run_call(make_call("echo", {}), FakeUpstream(), follows, configured(Decides(verdict, waits=waits), name="d"))
    assert follows.steps() == [("d", "before_call", *decided)]
    (step,) = [it for it in follows.ended[0].steps if isinstance(it, HookStep)]
    assert step.seconds >= (0.005 if waits else 0)


async def test_hooks_after_the_call_are_recorded_too() -> None:
    follows = Follows()
    await run_call(make_call(), FakeUpstream(), follows, configured(Looks(), name="l"), configured(Edits(), name="e"))
    assert follows.steps() == [("l", "before_call"), ("e", "after_call", "edit", ""), ("l", "after_call")]


async def test_malformed_arguments_are_no_failure_of_the_plugin() -> None:
    follows = Follows()
    call = make_call("echo")
    broken = configured(Decides(lambda call: call.arguments), name="d")
    import msgspec

    await run_call(msgspec.structs.replace(call, raw_arguments=b'{"a":1,"a":2}'), FakeUpstream(), follows, broken)
    assert follows.steps() == [("d", "before_call")]


async def test_a_hook_runs_again_after_its_question() -> None:
    follows, user = Follows(), FakeUser(Answer("accept"))
    asks = Decides(lambda call: None if call.answers else Ask("Really?", name="q"))
    await run_call(make_call(era="legacy"), FakeUpstream(), follows, configured(asks, name="a"), user=user)
    assert follows.steps() == [("a", "before_call", "ask", "q"), ("a", "before_call")]


async def test_nothing_is_measured_of_a_call_that_is_not_followed() -> None:
    class Ignores(Follows):
        @hookimpl
        def trace_call(self, begun: CallBegun) -> None: ...  # type: ignore[override]

        @hookimpl
        def observe(self, event: Any) -> None:
            self.ended.append(event)

    ignores = Ignores()
    await run_call(make_call(), FakeUpstream(), ignores, Looks(), Edits())
    assert ignores.ended[0].steps == ()
