"""What a timeline records of the requests to upstreams."""

import asyncio
import time
from typing import Any

import pytest

from gateway_core import CallTrace, Decision, HookStep, HopStep, WaitStep
from gateway_core.errors import Busy, NotSent, OutcomeUnknown, RefusedUpstream, RpcError
from gateway_core.exchange.hops import Carried
from gateway_core.hooks.tracing import Timeline
from gateway_core.hooks.tracing.timeline import MAX_STEPS, MIN_WAIT
from gateway_core.testing import make_upstream
from gateway_core.upstream.requests import Reply, Request


async def hop(timeline: Timeline, end: Any, *, upstream: str = "files") -> Any:
    """One request whose answer is `end`, or that fails with it."""

    async def send(request: Request) -> Any:
        if isinstance(end, BaseException):
            raise end
        return end

    return await timeline.hop(make_upstream(upstream), Request("tools/call", {}), send)


@pytest.mark.parametrize(
    ("end", "ended", "code"),
    [
        (Reply(b"{}"), "answered", None),
        (Reply(error=RpcError(-32602, "no")), "answered", -32602),
        (NotSent("refused"), "not_sent", None),
        (Busy("not connected"), "not_sent", None),
        (RefusedUpstream("HTTP 403", status=403), "refused", None),
        (OutcomeUnknown("lost"), "unknown", None),
        (asyncio.CancelledError(), "cancelled", None),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Exception) else str(it),
)
async def test_each_request_is_recorded_with_its_end(end: Any, ended: str, code: int | None) -> None:
    timeline, before = Timeline(CallTrace()), time.time()
    if isinstance(end, BaseException):
        with pytest.raises(type(end)):
            await hop(timeline, end)
    else:
        assert await hop(timeline, end) is end
    (step,) = timeline.finish()
    assert isinstance(step, HopStep)
    assert (step.upstream, step.number, step.ended, step.code) == ("files", 0, ended, code)
    assert before - 1 < step.started
    assert step.seconds >= 0


@pytest.mark.parametrize(
    ("end", "ended", "code"),
    [
        (Reply(b"{}"), "answered", None),
        (Reply(error=RpcError(-32602, "no")), "answered", -32602),
        ("further questions", "open", None),
        (OutcomeUnknown("lost"), "unknown", None),
        (asyncio.CancelledError(), "cancelled", None),
    ],
    ids=str,
)
async def test_a_parked_request_that_goes_on_is_recorded_from_there(end: Any, ended: str, code: int | None) -> None:
    contexts: list[str] = []
    timeline = Timeline(CallTrace(), lambda upstream: contexts.append(upstream.name))
    await hop(timeline, Reply(b"{}"))

    async def waiting() -> Any:
        if isinstance(end, BaseException):
            raise end
        return end

    going_on = timeline.resume(make_upstream("asker"), waiting(), lambda outcome: isinstance(outcome, Reply))
    if isinstance(end, BaseException):
        with pytest.raises(type(end)):
            await going_on
    else:
        assert await going_on is end
    step = timeline.finish()[-1]
    assert isinstance(step, HopStep)
    assert (step.upstream, step.number, step.ended, step.code) == ("asker", 1, ended, code)
    assert contexts == ["files", "asker"], "the number of a request is that of its context"


async def test_requests_are_numbered_as_they_begin_and_kept_as_they_end() -> None:
    timeline, go = Timeline(CallTrace()), asyncio.Event()

    async def slow(request: Request) -> Reply:
        await go.wait()
        return Reply(b"{}")

    first = asyncio.create_task(timeline.hop(make_upstream("slow"), Request("tools/call", {}), slow))
    await asyncio.sleep(0)
    await hop(timeline, Reply(b"{}"), upstream="fast")
    go.set()
    await first
    steps = [step for step in timeline.finish() if isinstance(step, HopStep)]
    assert [(step.upstream, step.number) for step in steps] == [("fast", 1), ("slow", 0)]


async def test_a_request_that_outlives_its_call_is_recorded_once_as_open() -> None:
    timeline, go = Timeline(CallTrace()), asyncio.Event()

    async def slow(request: Request) -> Reply:
        await go.wait()
        return Reply(b"{}")

    parked = asyncio.create_task(timeline.hop(make_upstream("slow"), Request("tools/call", {}), slow))
    await asyncio.sleep(0)
    assert [step.ended for step in timeline.finish() if isinstance(step, HopStep)] == ["open"]
    go.set()
    await parked
    assert len(timeline.finish()) == 1


async def test_the_context_of_each_request_goes_along_with_it() -> None:
    contexts = [Carried.of({"traceparent": f"00-{number}"}) for number in range(2)]
    left = iter([*contexts, None])
    timeline, sent = Timeline(CallTrace(), lambda upstream: next(left)), []

    async def send(request: Request) -> Reply:
        sent.append(request.complete_meta)
        return Reply(b"{}")

    for _ in range(3):
        await timeline.hop(make_upstream(), Request("tools/call", {}, {"traceparent": "agent"}), send)
    assert sent == [{"traceparent": "00-0"}, {"traceparent": "00-1"}, {"traceparent": "agent"}]


def test_the_number_of_steps_is_bounded() -> None:
    timeline = Timeline(CallTrace())
    for _ in range(MAX_STEPS + 5):
        timeline.hook_ran("p", "before_call", time.perf_counter(), Decision("p", "pass"))
    steps = timeline.finish()
    assert len(steps) == MAX_STEPS
    assert isinstance(steps[0], HookStep)


async def test_each_wait_is_recorded_with_its_end_unless_it_is_too_short_to_matter() -> None:
    timeline = Timeline()

    async def waits(seconds: float, end: Exception | None = None) -> str:
        if seconds:
            await asyncio.sleep(seconds)
        if end is not None:
            raise end
        return "turn"

    assert await timeline.wait("files", "place", waits(0)) == "turn"
    assert await timeline.wait("files", "place", waits(2 * MIN_WAIT)) == "turn"
    with pytest.raises(Busy):
        await timeline.wait("files", "place", waits(2 * MIN_WAIT, Busy("full")))
    waiting = asyncio.create_task(timeline.wait("files", "start", waits(60)))
    await asyncio.sleep(0.01)
    (running,) = timeline.running()
    assert isinstance(running, WaitStep)
    assert running.waited_for == "start"
    waiting.cancel()
    await asyncio.wait({waiting})
    assert timeline.running() == ()
    steps = [(step.waited_for, step.ended) for step in timeline.finish() if isinstance(step, WaitStep)]
    assert steps[-3:] == [("place", "done"), ("place", "failed"), ("start", "cancelled")]
    assert len(steps) <= 4, "the wait that did not wait is a step only on a machine that stood still"


async def test_what_runs_is_known_before_it_ends() -> None:
    timeline, go = Timeline(), asyncio.Event()

    async def slow(request: Request) -> Reply:
        await go.wait()
        return Reply(b"{}")

    timeline.hook_begins("gate", "before_call")
    (hook,) = timeline.running()
    assert isinstance(hook, HookStep)
    timeline.hook_ran("gate", "before_call", time.perf_counter(), None)
    sent = asyncio.create_task(timeline.hop(make_upstream("slow"), Request("tools/call", {}), slow))
    await asyncio.sleep(0)
    assert [(step.upstream, step.ended) for step in timeline.running() if isinstance(step, HopStep)] == [
        ("slow", "open")
    ]
    go.set()
    await sent
    assert timeline.running() == ()
    assert len(timeline.steps) == 2
