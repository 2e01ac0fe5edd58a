"""Failover: what is sent again, what never is, and what the agent is told (docs/delivery.md)."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from gateway_core import hookimpl
from gateway_core.api import Call, Outcome, Principal, Tool, UpstreamState
from gateway_core.catalog import Target
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.errors import NotSent, OutcomeUnknown, RefusedUpstream, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import Chain
from gateway_core.pipeline.input_required import InputRequired
from gateway_core.pipeline.router import MIN_RETRIES, Router, available
from gateway_core.sealing import Seal
from gateway_core.testing import configured
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.requests import Reply, Request
from gateway_core.upstream.upstream import Upstream

Behaviour = Exception | Reply | Callable[[Exchange], Any]
OK = Reply(result=b'{"content":[]}')


class Scripted(Upstream):
    """An upstream that ends its attempts as told: real servers do not fail on cue."""

    def __init__(self, name: str, behaviour: Sequence[Behaviour], **settings: Any) -> None:
        config = UpstreamConfig(name=name, transport="http", url="http://127.0.0.1:1/mcp", **settings)
        super().__init__(config, ProxyConfig(), 0)
        self.facts.state = UpstreamState.HEALTHY
        self.facts.era = "modern"
        self._behaviour = list(behaviour)
        self.attempts = 0

    @property
    def reachable(self) -> bool:
        return True

    def offers(self, tool: str, annotations: dict[str, Any]) -> None:
        definition = {"name": tool, "annotations": annotations}
        item = Item("tool", tool, json.dumps(definition).encode(), "")
        self.published.fetched = FetchedLists({"tool": (item,)})

    async def request(self, exchange: Exchange, request: Request) -> Reply:
        behaviour = self._behaviour[min(self.attempts, len(self._behaviour) - 1)]
        self.attempts += 1
        if isinstance(behaviour, Exception):
            raise behaviour
        if isinstance(behaviour, Reply):
            return behaviour
        result: Reply = await behaviour(exchange)
        return result


def call_of(method: str = "tools/call") -> tuple[Call, Exchange]:
    agent = Agent(Principal("agent@test"), "modern", "2026-07-28")
    exchange = Exchange(agent, method)
    return Call(method, "t", agent.principal, "modern", exchange.id), exchange


async def dispatch(
    *upstreams: Upstream,
    method: str = "tools/call",
    params: Mapping[str, Any] | None = None,
    tool: Tool | None = None,
    touched: bool = False,
    plugins: Sequence[object] = (),
) -> Any:
    call, exchange = call_of(method)
    exchange.touched, exchange.origin = touched, call
    target = Target("t", upstreams, tool)
    router = Router(Chain([configured(plugin) for plugin in plugins]), InputRequired(ProxyConfig(), Seal()))
    result, _ = await router.dispatch(call, exchange, target, Request(method, params or {}))
    return result


@pytest.mark.parametrize("method", ["tools/call", "resources/read"])
async def test_what_was_not_sent_goes_to_the_next_candidate(method: str) -> None:
    first, second = Scripted("a", [NotSent("refused")]), Scripted("b", [OK])
    result = await dispatch(first, second, method=method)
    assert (result.outcome, result.upstream) == (Outcome.OK, "b")


async def test_a_tool_call_of_unknown_fate_is_never_sent_again() -> None:
    first, second = Scripted("a", [OutcomeUnknown("reset")]), Scripted("b", [OK])
    result = await dispatch(first, second)
    assert (first.attempts, second.attempts) == (1, 0)
    assert result.outcome is Outcome.UNKNOWN
    assert result.content["isError"] is True
    assert result.content["_meta"]["dev.radium.gateway/outcome"] == "unknown"
    assert "verify before retrying" in result.content["content"][0]["text"]


@pytest.mark.parametrize("method", ["resources/read", "prompts/get", "completion/complete"])
async def test_a_read_of_unknown_fate_is_sent_once_more(method: str) -> None:
    first, second = Scripted("a", [OutcomeUnknown("reset")]), Scripted("b", [OutcomeUnknown("reset"), OK])
    result = await dispatch(first, second, method=method)
    assert (first.attempts, second.attempts) == (1, 1)
    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("method", "attempts"), [("tasks/get", 2), ("tasks/update", 1), ("tasks/cancel", 1)])
async def test_a_question_about_a_task_is_sent_once_more_and_what_changes_it_is_not(method: str, attempts: int) -> None:
    upstream = Scripted("a", [OutcomeUnknown("reset"), OK])
    result = await dispatch(upstream, method=method)
    assert (upstream.attempts, result.outcome) == (attempts, Outcome.OK if attempts == 2 else Outcome.UNKNOWN)


async def test_a_read_that_carries_answers_is_not_repeated() -> None:
    first = Scripted("a", [OutcomeUnknown("reset"), OK])
    await dispatch(first, method="prompts/get", params={"inputResponses": {}})
    assert first.attempts == 1


@pytest.mark.parametrize(
    ("settings", "annotations", "attempts"),
    [
        ({}, {"readOnlyHint": True}, 1),
        ({"trust_annotations": True}, {"readOnlyHint": True}, 2),
        ({"trust_annotations": True}, {"idempotentHint": True}, 2),
        ({"trust_annotations": True}, {"readOnlyHint": False}, 1),
        ({"trust_annotations": True}, {}, 1),
        ({"retry": "safe"}, {}, 2),
        ({"retry": {"t": "safe"}}, {}, 2),
        ({"retry": {"other": "safe"}}, {}, 1),
    ],
)
async def test_a_tool_is_repeated_only_on_the_operators_word(
    settings: dict[str, Any], annotations: dict[str, Any], attempts: int
) -> None:
    upstream = Scripted("a", [OutcomeUnknown("reset"), OK], **settings)
    upstream.offers("t", annotations)
    await dispatch(upstream)
    assert upstream.attempts == attempts


async def test_a_trusted_servers_tool_is_not_repeated_on_another_servers_word() -> None:
    liar, trusted = Scripted("a", [OK]), Scripted("b", [OutcomeUnknown("reset"), OK], trust_annotations=True)
    liar.offers("t", {"readOnlyHint": True})
    trusted.offers("t", {})
    tool = Tool("t", "t", {"annotations": {"readOnlyHint": True}}, ("a", "b"))
    await dispatch(trusted, liar, tool=tool)
    assert (trusted.attempts, liar.attempts) == (1, 0)


async def test_a_repetition_goes_only_to_a_replica_that_allows_it_too() -> None:
    first, second = Scripted("a", [OutcomeUnknown("reset"), OK], retry="safe"), Scripted("b", [OK])
    result = await dispatch(first, second)
    assert (first.attempts, second.attempts, result.outcome) == (2, 0, Outcome.OK)


class RoutesOnce:
    """Fails when it is asked a second time."""

    def __init__(self) -> None:
        self.asked = 0

    @hookimpl
    def route_tool(self) -> None:
        self.asked += 1
        assert self.asked == 1


async def test_a_routing_plugin_that_fails_for_a_repetition_does_not_say_that_the_call_was_not_sent() -> None:
    upstreams = [Scripted(name, [OutcomeUnknown("reset"), OK], retry="safe") for name in ("a", "b", "c")]
    routes = RoutesOnce()
    result = await dispatch(*upstreams, plugins=[routes])
    assert ([one.attempts for one in upstreams], routes.asked) == ([1, 0, 0], 2)
    assert result.outcome is Outcome.UNKNOWN
    assert "upstream a got the call and did not answer (reset)" in result.content["content"][0]["text"]


@pytest.mark.parametrize("second", [NotSent("not connected"), RefusedUpstream("HTTP 503", status=503)])
async def test_after_an_attempt_that_may_have_run_the_error_does_not_say_that_it_did_not(second: Exception) -> None:
    result = await dispatch(Scripted("a", [OutcomeUnknown("reset"), second], retry="safe"))
    assert result.outcome is Outcome.UNKNOWN
    assert "may have been executed" in result.content["content"][0]["text"]


async def test_nothing_is_repeated_after_something_went_to_the_agent() -> None:
    upstream = Scripted("a", [OutcomeUnknown("reset"), OK], retry="safe")
    await dispatch(upstream, touched=True)
    assert upstream.attempts == 1


async def test_a_repetition_is_one_at_most() -> None:
    upstream = Scripted("a", [OutcomeUnknown("reset")], retry="safe")
    await dispatch(upstream)
    assert upstream.attempts == 2


async def test_an_answer_is_final_even_when_it_is_an_error() -> None:
    second = Scripted("b", [OK])
    result = await dispatch(Scripted("a", [Reply(error=RpcError(-32602, "bad arguments"))]), second)
    assert (result.error.code, second.attempts) == (-32602, 0)
    result = await dispatch(Scripted("a", [Reply(result=b'{"content":[],"isError":true}')]), second)
    assert (result.outcome, second.attempts) == (Outcome.TOOL_ERROR, 0)


async def test_a_refusal_before_execution_is_final_and_says_so() -> None:
    second = Scripted("b", [OK])
    result = await dispatch(Scripted("a", [RefusedUpstream("HTTP 429", status=429, retry_after=2.5)]), second)
    assert second.attempts == 0
    assert result.error.data["retryAfterMs"] == 2500
    assert "not executed" in result.error.message


async def test_when_no_upstream_can_take_it_the_error_names_each_upstream_and_when() -> None:
    down = Scripted("b", [OK])
    down.facts.state = UpstreamState.DOWN
    down.status.last_error = "connection refused"
    down.status.retry_at = asyncio.get_running_loop().time() + 7
    result = await dispatch(Scripted("a", [NotSent("queue full")]), down)
    assert result.outcome is Outcome.UNAVAILABLE
    assert "a: queue full" in result.error.message
    assert "b: down (connection refused)" in result.error.message
    assert 6000 < result.error.data["retryAfterMs"] <= 7000
    assert result.error.data["upstreams"] == ["a", "b"]


async def test_when_all_are_ejected_the_one_due_soonest_is_tried() -> None:
    early, late = Scripted("a", [OK]), Scripted("b", [OK])
    now = asyncio.get_running_loop().time()
    for upstream, due in ((early, 5), (late, 50)):
        upstream.facts.state = UpstreamState.EJECTED
        upstream.status.retry_at = now + due
    assert available([late, early]) == [early]


async def test_repetitions_have_a_budget() -> None:
    """Of many reads that fail at once, only a few are sent again (`MIN_RETRIES`, or a fifth of those in flight)."""
    release = asyncio.Event()

    seen: set[str] = set()

    async def fail_once(exchange: Exchange) -> Reply:
        if exchange.id not in seen:
            seen.add(exchange.id)
            raise OutcomeUnknown("reset")
        await release.wait()
        return OK

    upstream = Scripted("a", [fail_once])
    router = Router(Chain([]), InputRequired(ProxyConfig(), Seal()))

    async def read() -> Any:
        call, exchange = call_of("resources/read")
        result, _ = await router.dispatch(call, exchange, Target("t", (upstream,)), Request("resources/read", {}))
        return result

    tasks = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.sleep(0.05)
    release.set()
    results = await asyncio.gather(*tasks)
    assert sum(result.outcome is Outcome.OK for result in results) == MIN_RETRIES
