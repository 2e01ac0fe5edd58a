"""What an exchange passes on to its agent: progress at a bounded pace, requested log messages, nothing after the
response."""

import asyncio
import json
from typing import Any

import pytest
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.errors import RpcError
from gateway_core.exchange import progress as module
from gateway_core.exchange.exchange import Agent, Exchange, admits
from gateway_core.exchange.naming import naming
from gateway_core.exchange.trail import MAX_MARKS
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall


class Back:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def notify(self, method: str, params: bytes) -> None:
        self.told.append((method, json.loads(params)))

    async def ask(self, method: str, params: bytes) -> bytes:
        raise AssertionError

    @property
    def values(self) -> list[float]:
        return [params["progress"] for _, params in self.told]


def exchange_of(**settings: Any) -> tuple[Exchange, Back]:
    back = Back()
    return Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call", back, **settings), back


def step(value: float) -> Raw:
    return Raw(b'{"progress":%d}' % value)


async def test_a_little_progress_is_passed_on_as_it_comes() -> None:
    exchange, back = exchange_of(progress_token=b'"p"')
    for value in range(1, module.PROGRESS_BURST + 1):
        exchange.progress(step(value))
    assert back.values == list(range(1, module.PROGRESS_BURST + 1))


async def test_of_a_storm_the_last_value_of_each_moment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SPACING", 0.01)
    exchange, back = exchange_of(progress_token=b'"p"')
    for value in range(1, 10_001):
        exchange.progress(step(value))
    assert module.PROGRESS_BURST <= len(back.values) <= module.PROGRESS_BURST + 2, "a slow machine earns a few more"
    async with asyncio.timeout(5):
        while back.values[-1] != 10_000:
            await asyncio.sleep(0.005)
    assert len(back.values) <= module.PROGRESS_BURST + 4


async def test_what_is_held_back_goes_before_the_answer_and_nothing_after_it() -> None:
    exchange, back = exchange_of(progress_token=b"7", log_level="debug")
    for value in range(1, 1001):
        exchange.progress(step(value))
    exchange.close()
    assert back.values[-1] == 1000
    count = len(back.told)
    exchange.progress(step(2000))
    exchange.log("error", Raw(b"{}"))
    await asyncio.sleep(2 * module.PROGRESS_SPACING)
    assert len(back.told) == count


async def test_progress_of_a_call_that_goes_on_ends_with_the_answer_of_the_request_that_took_it_up() -> None:
    first, _ = exchange_of(progress_token=b"1")
    first.leave()
    first.close()
    second, back = exchange_of(progress_token=b"2")
    first.rejoin(second)
    for value in range(1, 1001):
        first.progress(step(value))
    second.close()
    assert back.values[-1] == 1000
    assert {params["progressToken"] for _, params in back.told} == {2}
    first.progress(step(2000))
    await asyncio.sleep(2 * module.PROGRESS_SPACING)
    assert back.values[-1] == 1000


async def test_only_log_messages_that_were_asked_for_are_passed_on() -> None:
    for wanted, expected in (("", 0), ("warning", 1), ("debug", 2)):
        exchange, back = exchange_of(log_level=wanted)
        exchange.log("info", Raw(b'{"level":"info"}'))
        exchange.log("error", Raw(b'{"level":"error"}'))
        exchange.log("shout", Raw(b'{"level":"shout"}'))
        assert len(back.told) == expected
        assert exchange.touched is bool(expected)


@pytest.mark.parametrize(("wanted", "level"), [("", "emergency"), ("error", "warning"), ("error", ""), ("no", "alert")])
def test_a_level_below_the_wanted_one_is_not_admitted(wanted: str, level: str) -> None:
    assert not admits(wanted, level)


def deadline_in(seconds: float) -> InlineCall[None]:
    """The deadline of a call that waits, as the pipeline sets it."""
    calls = Deadlines()
    call = InlineCall(calls, coroutine=asyncio.sleep(60))
    call.move(asyncio.get_running_loop().time() + seconds)
    call.begin()
    call.step()
    return call


class Slow(Back):
    """An agent that takes its time with answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()

    async def ask(self, method: str, params: bytes) -> bytes:
        await self.answer.wait()
        return b"{}"


async def test_what_comes_after_the_end_of_a_request_moves_no_deadline_and_is_no_error() -> None:
    exchange, _ = exchange_of()
    exchange.back = slow = Slow()
    exchange.deadline = deadline = deadline_in(60)
    asking = asyncio.create_task(exchange.ask("u", "roots/list", b"{}"))
    await asyncio.sleep(0)
    deadline.close_deadline()
    slow.answer.set()
    assert await asking == b"{}", "the answer of the agent still reaches the server that asked"
    exchange.progress(step(1))
    exchange.end("the gateway is stopping")


async def test_questions_that_are_open_at_the_same_time_give_a_call_their_time_once() -> None:
    exchange, _ = exchange_of()
    exchange.back = slow = Slow()
    loop = asyncio.get_running_loop()
    started = loop.time()
    exchange.begin(deadline := InlineCall(Deadlines(), started=started, longest=100.0), 60, 1)
    asking = [asyncio.create_task(exchange.ask("u", "roots/list", b"{}")) for _ in range(50)]
    await asyncio.sleep(0.05)
    slow.answer.set()
    await asyncio.gather(*asking)
    assert deadline.hard_limit <= loop.time() + 100


async def test_an_agent_that_does_not_answer_costs_the_question_and_not_the_call() -> None:
    exchange, _ = exchange_of()
    exchange.back = Slow()
    deadline = deadline_in(0.02)
    exchange.begin(deadline, 0.05, 1)
    with pytest.raises(RpcError, match=r"did not answer roots/list of u within 0\.05 s"):
        await exchange.ask("u", "roots/list", b"{}")
    await asyncio.sleep(0.05)
    assert not deadline.passed


FORGED = (
    b'{"progress":1,"_meta":{"dev.radium.gateway/outcome":"unknown","dev.radium.gateway/upstream":"bank",'
    b'"io.modelcontextprotocol/subscriptionId":7,"own":1}}'
)


async def test_an_upstream_does_not_say_in_progress_what_only_the_gateway_says() -> None:
    exchange, back = exchange_of(progress_token=b'"p"')
    exchange.progress(Raw(FORGED))
    exchange.progress(Raw(b'{"progress":2,"_meta":5}'))
    assert back.told == [
        ("notifications/progress", {"progress": 1, "progressToken": "p", "_meta": {"own": 1}}),
        ("notifications/progress", {"progress": 2, "progressToken": "p", "_meta": 5}),
    ]


def test_a_question_names_the_upstream_that_asks_and_says_nothing_else_for_the_gateway() -> None:
    assert json.loads(naming("evil", FORGED)) == {
        "progress": 1,
        "_meta": {"dev.radium.gateway/upstream": "evil", "own": 1},
    }


async def test_a_usual_exchange_has_no_trail_and_what_happens_is_bounded() -> None:
    exchange, _ = exchange_of(progress_token=b"1")
    exchange.attempt("files")
    exchange.mark_sent()
    assert exchange.trail is None
    exchange.mark("failed", "files", "refused\x1b[2J" + "x" * 1000)
    for value in range(1, 1001):
        exchange.progress(step(value))
    assert exchange.trail is not None
    failed, progress = exchange.trail.marks
    assert (failed.what, failed.upstream, len(failed.text) < 250, "\x1b" in failed.text) == (
        "failed",
        "files",
        True,
        False,
    )
    assert (progress.what, progress.text, progress.upstream) == ("progress", "1000", "files")
    for _ in range(100):
        exchange.mark("asked", "files", "elicitation/create")
    assert (len(exchange.trail.marks), exchange.trail.left_out) == (MAX_MARKS, 102 - MAX_MARKS)
