"""The hook `trace_call`: what it is told, what goes along with requests, and what a failure of it changes."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from gateway_core import CallBegun, CallEnded, CallTrace, HopStep, Outcome, Reject, hookimpl
from gateway_core.testing import FakeUpstream, make_call, run_call, run_hook

PARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The errors in the log."""
    found: list[str] = []
    handler = logger.add(lambda message: found.append(message.record["message"]), level="ERROR")
    yield found
    logger.remove(handler)


class Trace(CallTrace):
    def __init__(self, context: Any = None) -> None:
        self.context = context
        self.hops: list[str] = []
        self.events: list[CallEnded] = []

    def hop(self, upstream: Any) -> Any:
        self.hops.append(upstream.name)
        if isinstance(self.context, Exception):
            raise self.context
        return self.context or {}

    def ended(self, event: CallEnded) -> None:
        self.events.append(event)


class Traces:
    """Returns `verdict` for each call, and keeps what it was told."""

    def __init__(self, verdict: Any) -> None:
        self.verdict = verdict
        self.begun: list[CallBegun] = []

    @hookimpl
    def trace_call(self, begun: CallBegun) -> Any:
        self.begun.append(begun)
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict


def test_hook_trace_call() -> None:
    begun = CallBegun("exchange", "tools/call", "modern", "2026-07-28", {}, {})
    assert run_hook(Traces({"traceparent": PARENT}), "trace_call", begun) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        (None, {}),
        ({"traceparent": PARENT, "tracestate": "a=1", "baggage": "b=2"}, {"traceparent": PARENT, "tracestate": "a=1"}),
        ({"tracestate": "a=1"}, {}),
        ({"traceparent": 7, "tracestate": "a=1"}, {"tracestate": "a=1"}),
        ({"traceparent": PARENT, "tracestate": "a" * 9000}, {"traceparent": PARENT}),
    ],
)
async def test_the_plugin_is_told_of_the_context_in_the_meta(meta: Any, told: Any) -> None:
    plugin = Traces(None)
    await run_call(make_call("echo", era="legacy", meta=meta), FakeUpstream(), plugin)
    (begun,) = plugin.begun
    assert (begun.exchange_id, begun.method, begun.era) == ("exchange", "tools/call", "legacy")
    assert (begun.meta, begun.headers, begun.protocol_version) == (told, {}, "2025-11-25")


@pytest.mark.parametrize("method", ["tools/list", "prompts/get", "resources/read", "tasks/get"])
async def test_every_method_may_be_followed(method: str) -> None:
    trace = Trace()
    await run_call(make_call("x", method=method), FakeUpstream(), Traces(trace))
    assert [event.method for event in trace.events] == [method]


async def test_the_trace_is_told_of_each_request_and_of_the_end() -> None:
    trace, upstream = Trace({"traceparent": OTHER}), FakeUpstream()
    await run_call(make_call("echo", meta={"traceparent": PARENT}), upstream, Traces(trace))
    assert (trace.hops, upstream.carried) == (["upstream"], [{"traceparent": OTHER}])
    (event,) = trace.events
    (step,) = event.steps
    assert isinstance(step, HopStep)
    assert (step.upstream, step.ended, event.result.outcome) == ("upstream", "answered", Outcome.OK)
    assert event.started - 0.001 <= step.started
    assert step.seconds <= event.seconds


async def test_a_call_that_is_only_passed_on_carries_the_context_to_the_upstream() -> None:
    upstream = FakeUpstream()
    await run_call(make_call(), upstream, Traces({"traceparent": PARENT, "tracestate": "a=1"}))
    assert upstream.carried == [{"traceparent": PARENT, "tracestate": "a=1"}]


class Refuses:
    @hookimpl
    def before_call(self, call: Any) -> Reject:
        return Reject("no")


async def test_a_refused_call_ends_for_its_trace() -> None:
    trace = Trace()
    await run_call(make_call(), FakeUpstream(), Refuses(), Traces(trace))
    assert [(event.result.outcome, len(event.steps)) for event in trace.events] == [(Outcome.REFUSED, 1)]


async def test_a_cancelled_call_ends_for_its_trace() -> None:
    trace = Trace()
    serving = asyncio.create_task(run_call(make_call(), FakeUpstream(delay=30), Traces(trace)))
    async with asyncio.timeout(10):
        while not trace.hops:
            await asyncio.sleep(0.01)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    (event,) = trace.events
    assert event.result.outcome is Outcome.CANCELLED
    assert [step.ended for step in event.steps if isinstance(step, HopStep)] == ["cancelled"]


WRONG = [
    7,
    "00-1",
    {"tracestate": "a=1"},
    {"traceparent": 7},
    {"traceparent": "a\r\nX-Admin: 1"},
    {"traceparent": "ä"},
    {"traceparent": ""},
    {"traceparent": PARENT, "tracestate": "a" * 9000},
    {"traceparent": PARENT, "authorization": "secret-token"},
    ValueError("secret-token"),
    SystemExit(),
]


@pytest.mark.parametrize("verdict", WRONG, ids=lambda it: str(it)[:40])
async def test_a_failure_is_logged_and_the_call_goes_on(verdict: Any, lines: list[str]) -> None:
    upstream = FakeUpstream()
    result = await run_call(make_call(), upstream, Traces(verdict))
    assert (result.outcome, upstream.carried) == (Outcome.OK, [{}])
    found = [line for line in lines if "failed in trace_call" in line]
    assert len(found) == 1
    assert "secret-token" not in str(found)


@pytest.mark.parametrize("context", [*WRONG[:-1]], ids=lambda it: str(it)[:40])
async def test_a_failure_at_a_request_is_logged_and_the_request_goes_on(context: Any, lines: list[str]) -> None:
    upstream, trace = FakeUpstream(), Trace(context)
    result = await run_call(make_call(), upstream, Traces(trace))
    assert (result.outcome, upstream.carried) == (Outcome.OK, [{}])
    assert any("failed in trace_call" in line for line in lines)
    assert len(trace.events) == 1


async def test_a_failure_at_the_end_is_logged_and_the_result_stays(lines: list[str]) -> None:
    class Breaks(CallTrace):
        def ended(self, event: CallEnded) -> None:
            raise ValueError("secret-token")

    assert (await run_call(make_call(), FakeUpstream(), Traces(Breaks()))).outcome is Outcome.OK
    assert any("failed in trace_call" in line for line in lines)
    assert "secret-token" not in str(lines)
