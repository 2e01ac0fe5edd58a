"""Shares of agents in the requests in flight."""

import asyncio
import json
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.downstream.calls import call_shares
from gateway_core.downstream.calls.call_shares import CallShares
from gateway_core.errors import OVERLOADED, TooManyCalls
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.deadlines import Deadline, Deadlines

LIMIT = 40
FLOOD = Principal("flood@10.0.0.1", address="10.0.0.1")
OTHER = Principal("other@10.0.0.1", address="10.0.0.1")
FAR = Principal("far@10.0.0.2", address="10.0.0.2")


@pytest.fixture
def deadlines() -> Deadlines:
    return Deadlines()


@pytest.fixture
def shares(deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch) -> CallShares:
    monkeypatch.setattr(call_shares, "COUNTED_FOR", -1.0)
    return CallShares(LIMIT, lambda: deadlines.running)


def run(deadlines: Deadlines, principal: Principal, number: int, *, for_seconds: float = 0.0) -> list[Deadline]:
    """Calls in flight that have run for so long."""
    begun = asyncio.get_running_loop().time() - for_seconds
    calls = [
        Deadline(deadlines, Exchange(Agent(principal, "modern", "2026-07-28"), "tools/call"), begun, begun + 60.0)
        for _ in range(number)
    ]
    deadlines.running.update(calls)
    return calls


async def test_a_principal_has_a_quarter_and_others_are_admitted(shares: CallShares, deadlines: Deadlines) -> None:
    held = run(deadlines, FLOOD, LIMIT // 4)
    shares.check(FLOOD)
    held += run(deadlines, FLOOD, 1)
    with pytest.raises(TooManyCalls, match="flood@") as refused:
        shares.check(FLOOD)
    assert (refused.value.code, refused.value.data["retryAfterMs"]) == (OVERLOADED, 1000)
    shares.check(OTHER)
    shares.check(FAR)
    deadlines.running.clear()
    shares.check(FLOOD)


async def test_calls_whose_user_is_asked_do_not_count(shares: CallShares, deadlines: Deadlines) -> None:
    class Silent:
        def notify(self, method: str, params: bytes) -> None: ...

        async def ask(self, method: str, params: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    class Place:
        def release(self) -> None: ...
        def reacquire(self) -> None: ...

    waiting = []
    for deadline in run(deadlines, FLOOD, LIMIT):
        deadline.about.back = Silent()
        question = Silent().ask("elicitation/create", b"{}")
        asking = deadline.about.ask_before_sending("plugin p", "elicitation/create", question, 60, Place())
        waiting.append(asyncio.create_task(asking))
    with pytest.raises(TooManyCalls):
        shares.check(FLOOD)
    await asyncio.sleep(0)
    shares.check(FLOOD)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    with pytest.raises(TooManyCalls):
        shares.check(FLOOD)


async def test_the_wait_grows_with_the_time_that_the_calls_have_run(shares: CallShares, deadlines: Deadlines) -> None:
    run(deadlines, FLOOD, 20, for_seconds=20.0)
    with pytest.raises(TooManyCalls) as refused:
        shares.check(FLOOD)
    assert refused.value.data["retryAfterMs"] == pytest.approx(20_000, abs=500)
    deadlines.running.clear()
    run(deadlines, FLOOD, 20, for_seconds=50.0)
    with pytest.raises(TooManyCalls) as refused:
        shares.check(FLOOD)
    assert refused.value.data["retryAfterMs"] == pytest.approx(10_000, abs=500), "its first deadline is near"


async def test_progress_does_not_make_a_call_younger(shares: CallShares, deadlines: Deadlines) -> None:
    for deadline in run(deadlines, FLOOD, 20, for_seconds=20.0):
        deadline.extend()
    with pytest.raises(TooManyCalls) as refused:
        shares.check(FLOOD)
    assert refused.value.data["retryAfterMs"] == pytest.approx(20_000, abs=500)


async def test_an_address_has_three_quarters_while_others_want_places(
    shares: CallShares, deadlines: Deadlines, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        run(deadlines, Principal(f"{number}@10.0.0.1", address="10.0.0.1"), 9)
    shares.check(OTHER)
    shares.check(FAR)
    with pytest.raises(TooManyCalls, match=r"10\.0\.0\.1 has"):
        shares.check(OTHER)
    monkeypatch.setattr(call_shares, "WANTED_FOR", 0.0)
    shares.check(OTHER)


async def test_what_was_admitted_since_the_last_count_counts(deadlines: Deadlines) -> None:
    shares = CallShares(LIMIT, lambda: deadlines.running)
    for _ in range(LIMIT // 4 + 1):
        shares.check(FLOOD)
    with pytest.raises(TooManyCalls):
        shares.check(FLOOD)


async def test_a_flooder_gets_429_and_others_are_served(start: Any, helpers: Any) -> None:
    world = await start(limits={"in_flight": 16})

    async def call(agent: str, tool: str) -> Any:
        headers, body = helpers.modern("tools/call", {"name": tool})
        body["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] = agent
        async with world.http.post(world.url, json=body, headers=headers) as response:
            return response.status, response.headers.get("Retry-After"), json.loads(await response.read())

    flood = [asyncio.create_task(call("flood", "nap")) for _ in range(14)]
    async with asyncio.timeout(10):
        while sum(task.done() for task in flood) < 5:
            await asyncio.sleep(0.01)
    refused = [task.result() for task in flood if task.done()]
    assert {(status, wait, answer["error"]["code"]) for status, wait, answer in refused} == {(429, "1", OVERLOADED)}
    assert (await call("other", "echo"))[0] == 200
    world.pipeline.released.set()
    assert [(await task)[0] for task in flood].count(200) == 9
    assert (await call("flood", "echo"))[0] == 200
