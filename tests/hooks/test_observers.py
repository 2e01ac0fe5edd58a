"""Plugins that observe: what they are told about calls and credentials, and what a failing one leads to."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger
from msgspec.structs import replace

from gateway_core import (
    Answer,
    Ask,
    AuthenticationEnded,
    Call,
    CallEnded,
    CallResult,
    Decision,
    Event,
    Pass,
    Reject,
    UpstreamChanged,
    UpstreamState,
    hookimpl,
)
from gateway_core.api import Outcome, Principal
from gateway_core.errors import PLUGIN_FAILED
from gateway_core.hooks import Chain, ChainProgress
from gateway_core.hooks.observers import MAX_RULE, MAX_WAITING
from gateway_core.testing import FakeUpstream, FakeUser, configured, make_call, make_result, run_call, run_hook

PIN = {"type": "object", "properties": {"pin": {"type": "string"}}}
REFUSED = AuthenticationEnded("192.0.2.1", None, "keys", "keys: revoked")


class Diary:
    """Keeps the events; `do` decides what the hook returns."""

    def __init__(self, do: Callable[[Event], Any] = lambda event: None) -> None:
        self.seen: list[Any] = []
        self.do = do

    @hookimpl
    def observe(self, event: Event) -> Any:
        self.seen.append(event)
        return self.do(event)


class Says:
    """Returns a verdict from `before_call`, or raises it."""

    def __init__(self, verdict: Any, result: CallResult | None = None) -> None:
        self.verdict, self.result = verdict, result

    @hookimpl
    def before_call(self, call: Call) -> Any:
        verdict = self.verdict(call) if callable(self.verdict) else self.verdict
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult | None:
        return self.result


async def observed(call: Call, *plugins: object, **more: Any) -> CallEnded:
    """What an observer is told about a call, wherever it stands in the order."""
    first, last = Diary(), Diary()
    loaded = [configured(plugin, name=f"p{number}") for number, plugin in enumerate(plugins)]
    upstream = more.pop("upstream", FakeUpstream())
    await run_call(call, upstream, configured(first, name="a"), *loaded, configured(last, name="z"), **more)
    assert first.seen == last.seen
    (event,) = first.seen
    assert isinstance(event, CallEnded)
    return event


def test_hook_observe() -> None:
    diary = Diary()
    assert run_hook(diary, "observe", REFUSED) is None
    assert diary.seen == [REFUSED]


async def test_a_call_that_no_plugin_touches() -> None:
    call = make_call("echo", {"a": 1})
    event = await observed(call)
    assert event.call is not None
    assert event.final is event.call
    assert (event.call.name, event.call.raw_arguments) == ("echo", b'{"a":1}')
    assert (event.method, event.principal, event.era) == ("tools/call", call.principal, "modern")
    assert (event.exchange_id, event.upstream, event.sent, event.decisions) == ("exchange", "upstream", True, ())
    assert (event.result.outcome, event.result.content["content"][0]["text"]) == (Outcome.OK, "ok")
    assert event.seconds >= 0
    assert event.started > 1.7e9


@pytest.mark.parametrize("method", ["tools/list", "prompts/get", "resources/subscribe", "tasks/get"])
async def test_every_method_is_observed_whatever_methods_the_plugin_names(method: str) -> None:
    answer = CallResult(raw=b"{}", upstream="upstream")
    event = await observed(make_call("x", method=method), upstream=FakeUpstream(answer))
    assert (event.method, event.result.outcome) == (method, Outcome.OK)


@pytest.mark.parametrize(
    ("verdict", "decided", "rule", "outcome"),
    [
        (Pass("rule 7"), "pass", "rule 7", "ok"),
        (Reject("no", rule="night"), "refuse", "night", "refused"),
        (Reject("no"), "refuse", "", "refused"),
        (lambda call: CallResult.unknown(call, rule="hidden"), "refuse", "hidden", "refused"),
        (CallResult.refused("no", rule="r"), "refuse", "r", "refused"),
        (CallResult.text("cached"), "answer", "", "ok"),
        (lambda call: call.replace(arguments={"b": 2}), "rewrite", "", "ok"),
        (Ask("may it?", name="deploy"), "ask", "deploy", "refused"),
        (ValueError("hush"), "fail", "", "refused"),
        (7, "fail", "", "refused"),
        (Pass("x" * 500), "pass", "x" * MAX_RULE, "ok"),
        (Pass("\ud800"), "pass", "\\ud800", "ok"),
        (Pass(7), "fail", "", "refused"),  # type: ignore[arg-type]
    ],
)
async def test_the_verdict_and_its_rule_are_told(verdict: Any, decided: str, rule: str, outcome: str) -> None:
    event = await observed(make_call(), Says(None), Says(verdict))
    assert event.decisions == (Decision("p1", decided, rule),)  # type: ignore[arg-type]
    assert event.result.outcome == outcome


async def test_no_agent_sees_a_rule() -> None:
    for verdict in (Reject("no", rule="secret-rule"), CallResult.refused("no", rule="secret-rule")):
        result = await run_call(make_call(), FakeUpstream(), Says(verdict), Diary())
        assert result.error is not None
        assert "secret-rule" not in repr((result.error.message, result.error.data))


async def test_verdicts_are_told_in_order_with_what_the_plugins_made_of_the_call() -> None:
    renames = Says(lambda call: call.replace(name="other", arguments={"c": 3}))
    edits = Says(Pass("fine"), make_result("hidden"))
    event = await observed(make_call("echo"), renames, edits)
    assert [(one.plugin, one.decided) for one in event.decisions] == [("p0", "rewrite"), ("p1", "pass"), ("p1", "edit")]
    assert event.call is not None
    assert event.final is not None
    assert (event.call.name, event.final.name, event.final.raw_arguments) == ("echo", "other", b'{"c":3}')
    assert event.result.content["content"][0]["text"] == "hidden"


async def test_a_question_and_what_followed_it() -> None:
    class Asks:
        @hookimpl
        def before_call(self, call: Call) -> Any:
            return Pass("the user accepted") if call.answers else Ask("may it?", name="deploy")

    legacy = await observed(make_call(era="legacy", session="s"), Asks(), user=FakeUser(Answer("accept")))
    assert [(one.decided, one.rule) for one in legacy.decisions] == [("ask", "deploy"), ("pass", "the user accepted")]
    assert legacy.session == "s"
    diary = Diary()
    await run_call(make_call(), FakeUpstream(), configured(Asks(), name="asks"), diary, user=FakeUser(Answer("accept")))
    asked, retried = diary.seen
    assert (asked.result.outcome, asked.decisions) == (Outcome.ASKED, (Decision("asks", "ask", "deploy"),))
    assert retried.decisions == (Decision("asks", "pass", "the user accepted"),)
    assert (retried.call.continues, retried.result.outcome) == (True, Outcome.OK)
    assert [one.answered for one in (legacy, asked, retried)] == [True, False, True]
    assert retried.answered_by == (), "the client answered"


async def test_no_plugin_sees_the_answer_to_the_question_of_another() -> None:
    class Asks:
        @hookimpl
        def before_call(self, call: Call) -> Any:
            return None if call.answers else Ask("PIN?", schema=PIN)

    event = await observed(make_call(era="legacy"), Asks(), user=FakeUser(Answer("accept", {"pin": "1234"})))
    assert event.final is not None
    public = [name for name in dir(event.final) if "answer" in name and not name.startswith("_")]
    assert public == ["answers", "with_answers"]
    assert event.final.seen_by("other").answers == {}


async def test_a_plugin_that_is_late_has_failed() -> None:
    class Late:
        @hookimpl
        async def before_call(self, call: Call) -> None:
            await asyncio.sleep(60)

    event = await observed(make_call(), Late(), timeout=0.2)
    assert (event.decisions, event.result.outcome) == ((Decision("p0", "fail"),), Outcome.REFUSED)
    assert event.result.error is not None
    assert event.result.error.code == PLUGIN_FAILED


async def test_a_cancelled_call_is_observed() -> None:
    diary, arrived = Diary(), asyncio.Event()

    class Waits:
        @hookimpl
        async def before_call(self, call: Call) -> None:
            arrived.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(run_call(make_call(), FakeUpstream(), Waits(), diary))
    await arrived.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (event,) = diary.seen
    assert (event.result.outcome, event.sent) == (Outcome.CANCELLED, False)


async def test_the_answer_waits_for_an_awaitable() -> None:
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    running = asyncio.create_task(run_call(make_call(), FakeUpstream(), Diary(lambda event: wait())))
    await asyncio.sleep(0.05)
    assert not running.done()
    gate.set()
    assert (await running).outcome is Outcome.OK


@pytest.mark.parametrize("do", [lambda event: 1 / 0, lambda event: 7, lambda event: asyncio.sleep(0, result="x")])
@pytest.mark.parametrize("on_error", ["reject", "ignore"])
async def test_a_failing_observer_changes_nothing_but_the_log(do: Callable[[Event], Any], on_error: Any) -> None:
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    later = Diary()
    broken = configured(Diary(do), name="broken", on_error=on_error)
    try:
        for _ in range(3):
            result = await run_call(make_call(), FakeUpstream(), broken, configured(later, name="later"))
            assert result.outcome is Outcome.OK
    finally:
        logger.remove(handler)
    assert len(later.seen) == 3
    assert all("plugin broken failed in observe for exchange" in line for line in lines)
    assert lines


async def test_what_an_observer_must_not_return_is_named(log: list[Any]) -> None:
    await run_call(make_call(), FakeUpstream(), configured(Diary(lambda event: 5), name="wrong"))
    assert "returned a int instead of None or an awaitable" in log[0]["message"]


async def test_lines_about_a_failing_observer_are_few() -> None:
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    observers = Chain([configured(Diary(lambda event: 1 / 0), name="broken")]).observers
    try:
        for _ in range(50):
            await observers.authentication_ended(REFUSED)
    finally:
        logger.remove(handler)
    assert len(lines) == 1
    assert lines[0].startswith("plugin broken failed in observe for a client at 192.0.2.1")


async def test_without_an_observer_no_decisions_are_kept() -> None:
    chain = Chain([configured(Says(Pass("rule 7")), name="p")])
    assert not chain.observers
    progress = ChainProgress()
    await chain.run_before(make_call(), lambda call: call, progress)
    assert progress.decisions == ()


def test_an_event_is_a_value() -> None:
    event = AuthenticationEnded("a", Principal("x"), "keys", "")
    with pytest.raises(AttributeError):
        event.reason = "other"  # type: ignore[misc]
    assert replace(event, reason="other").reason == "other"


# Upstreams


@pytest.fixture
def log() -> Iterator[list[Any]]:
    records: list[Any] = []
    handler = logger.add(lambda message: records.append(message.record), level="WARNING")
    yield records
    logger.remove(handler)


def change(number: int) -> UpstreamChanged:
    return UpstreamChanged(f"u{number}", UpstreamState.DOWN, UpstreamState.HEALTHY, "lost")


async def test_changes_of_upstreams_are_told_in_their_order_and_at_the_end_all_of_them() -> None:
    async def wait() -> None:
        await asyncio.sleep(0)

    slow, quick = Diary(lambda event: wait()), Diary()
    chain = Chain([configured(slow, name="slow"), configured(quick, name="quick")])
    changes = [change(number) for number in range(5)]
    chain.observers.upstream_changed(change(9))  # the plugins are not entered yet
    async with chain:
        for one in changes:
            chain.observers.upstream_changed(one)
        assert slow.seen == [], "it is told in a task: states change during calls"
        assert chain.asked
    assert slow.seen == quick.seen == changes
    assert not chain.asked
    chain.observers.upstream_changed(change(9))
    await asyncio.sleep(0)
    assert slow.seen == changes


async def test_a_plugin_that_is_too_slow_misses_the_oldest_changes(log: list[Any]) -> None:
    gate = asyncio.Event()
    slow = Diary(lambda event: _until(gate))
    async with Chain([configured(slow, name="slow")]) as chain:
        chain.observers.upstream_changed(change(0))
        while not slow.seen:
            await asyncio.sleep(0)
        for number in range(1, MAX_WAITING + 4):
            chain.observers.upstream_changed(change(number))
        gate.set()
    assert slow.seen == [change(0), *(change(number) for number in range(4, MAX_WAITING + 4))]
    assert [record["message"] for record in log] == [
        "the plugins with observe are too slow: changes of upstreams are lost to them; logged once a minute"
    ]


async def test_a_plugin_that_hangs_delays_the_end_of_the_others_for_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway_core.hooks.observers.AFTER_TIMEOUT", 0.05)
    hangs = Diary(lambda event: _until(asyncio.Event()))
    async with asyncio.timeout(60), Chain([configured(hangs, name="hangs")]) as chain:
        for number in range(3):
            chain.observers.upstream_changed(change(number))
    assert hangs.seen == [change(0)]


async def test_a_failure_about_an_upstream_is_logged_and_the_others_are_told(log: list[Any]) -> None:
    def fail(event: Event) -> None:
        raise ValueError("secret")

    last = Diary()
    async with Chain([configured(Diary(fail), name="fails"), configured(last, name="last")]) as chain:
        chain.observers.upstream_changed(change(1))
        chain.observers.upstream_changed(change(2))
    assert last.seen == [change(1), change(2)]
    (record,) = log  # one a minute
    assert record["message"].startswith("plugin fails failed in observe for the upstream u1: raised ValueError at ")


async def _until(event: asyncio.Event) -> None:
    await event.wait()
