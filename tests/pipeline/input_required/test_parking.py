"""What an agent brings back to a call that asked: taken once, from its owner, for that call, in time; else refused."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from gateway_core.config import Config, ProxyConfig, UpstreamConfig
from gateway_core.gateway import Gateway

VERSION = "2026-07-28"
REFUSED = "requestState is not valid for this request, or not any more; send the request without it"
ANSWER = {"action": "accept", "content": {"name": "ann"}}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is silent while a slow machine starts its server still gets a plain response."""
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 60.0)


class Agent:
    """A modern agent by hand: what it sends is the test's business."""

    capabilities: Mapping[str, Any] = {"elicitation": {"form": {}}}

    def __init__(self, world: Any, http: aiohttp.ClientSession, name: str = "ann") -> None:
        self._world, self._http, self._name = world, http, name
        self._number = 0

    async def call(self, tool: str, arguments: Any = None, *, method: str = "tools/call", **params: Any) -> Any:
        self._number += 1
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientInfo": {"name": self._name, "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
        }
        params = {"name": tool, "arguments": arguments or {}, "_meta": meta, **params}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": VERSION,
            "Mcp-Method": method,
            "Mcp-Name": tool,
        }
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        async with self._http.post(self._world.url, json=body, headers=headers) as response:
            assert response.content_type == "application/json"
            return await response.json()

    async def asked(self, tool: str = "greet", **arguments: Any) -> str:
        """Call it, be asked, and return the state to bring back."""
        answer = await self.call(tool, {"who": "bob", **arguments})
        assert "result" in answer, answer
        result = answer["result"]
        assert result["resultType"] == "input_required", result
        self.keys = list(result["inputRequests"])
        return str(result["requestState"])

    def answers(self) -> dict[str, Any]:
        return {"inputResponses": dict.fromkeys(self.keys, ANSWER)}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def refusal(answer: Any) -> str:
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"] == {"source": "gateway"}
    return str(answer["error"]["message"])


def asked_now() -> list[asyncio.Task[Any]]:
    """The tasks that wait for an agent's answer, or carry a call that may ask."""
    return [task for task in asyncio.all_tasks() if task.get_name() in {"asked by asker", "call of asker"}]


def said(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_a_state_is_its_owners_and_of_its_call_and_good_once(
    world: Any, asker: Any, http: aiohttp.ClientSession, server: str
) -> None:
    async with world(asker("http", server)) as w:
        ann, eve = Agent(w, http), Agent(w, http, "eve")
        state = await ann.asked()
        altered = state[:-8] + ("A" if state[-8] != "A" else "B") + state[-7:]
        back = ann.answers()
        bob = {"who": "bob"}
        attempts = [
            await ann.call("greet", bob, requestState=altered, **back),
            await eve.call("greet", bob, requestState=state, **back),
            await ann.call("greet", {"who": "bill"}, requestState=state, **back),
            await ann.call("all_at_once", bob, requestState=state, **back),
            await ann.call("greet", bob, requestState="", **back),
            await ann.call("greet", bob, requestState=7, **back),
        ]
        assert {refusal(attempt) for attempt in attempts} == {REFUSED}
        spaced = await ann.call("greet", bob, requestState=state, **back)
        assert said(spaced) == "bob: ann", "the owner's work goes on"
        assert refusal(await ann.call("greet", bob, requestState=state, **back)) == REFUSED


@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_answers_that_are_none_do_not_cost_the_state(
    world: Any, asker: Any, http: aiohttp.ClientSession, server: str
) -> None:
    async with world(asker("http", server)) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        for nonsense in ([], "x", {"a": 1}, {"a": None}):
            answer = await ann.call("greet", {"who": "bob"}, requestState=state, inputResponses=nonsense)
            assert "inputResponses" in refusal(answer)
        assert said(await ann.call("greet", {"who": "bob"}, requestState=state, **ann.answers())) == "bob: ann"


async def test_what_is_left_unanswered_is_asked_again(world: Any, asker: Any, http: aiohttp.ClientSession) -> None:
    async with world(asker("http", "legacy")) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        again = (await ann.call("greet", {"who": "bob"}, requestState=state, inputResponses={"other": {}}))["result"]
        assert again["resultType"] == "input_required"
        assert list(again["inputRequests"]) == ann.keys
        state = again["requestState"]
        assert said(await ann.call("greet", {"who": "bob"}, requestState=state, **ann.answers())) == "bob: ann"


async def test_a_call_whose_agent_does_not_come_back_is_cancelled_upstream_and_leaves_nothing(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    keys = {**asker("stdio", "legacy"), "isolation": "call"}
    async with world(keys, question_timeout=0.5) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        assert asked_now()
        assert w.gateway.status()["parked"] == 1
        await w.until(lambda: not w.gateway.input_required.parking, 2)
        journal = json.loads(said(await ann.call("asker:journal")))
        assert journal["cancelled"] == ["bob"]
        assert refusal(await ann.call("greet", {"who": "bob"}, requestState=state, **ann.answers())) == REFUSED
        assert w.gateway.pool.upstreams[0].facts.in_flight == 0
        await w.until(lambda: not asked_now())


async def test_a_call_that_is_given_up_leaves_no_question_open(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("http", "legacy"), question_timeout=0.5) as w:
        await Agent(w, http).asked()
        assert len(questions()) == 1
        await w.until(lambda: not w.gateway.input_required.parking)
        await w.until(lambda: not questions(), 2)


def questions() -> list[str]:
    """The questions of servers that the gateway has not answered."""
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("asked by")]


async def test_an_agent_that_leaves_during_a_later_round_cancels_the_call(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("stdio", "legacy")) as w:
        ann = Agent(w, http)
        state = await ann.asked(dwell=20)
        back = ann.call("greet", {"who": "bob", "dwell": 20}, requestState=state, **ann.answers())
        leaving = asyncio.create_task(back)
        await w.until(lambda: not w.gateway.input_required.parking)
        leaving.cancel()
        await w.until(lambda: w.gateway.pool.upstreams[0].facts.in_flight == 0, 1)
        journal = json.loads(said(await ann.call("asker:journal")))
        assert journal["cancelled"] == ["bob"]


async def test_calls_that_are_parked_when_the_gateway_ends_are_cancelled_upstream(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("stdio", "legacy")) as w:
        ann = Agent(w, http)
        await ann.asked()
        await w.gateway.input_required.parking.close()
        journal = json.loads(said(await ann.call("asker:journal")))
        assert journal["cancelled"] == ["bob"]


async def test_parked_calls_are_bounded_per_agent_and_the_others_are_served(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    limits = {"parked_per_principal": 2}
    async with world(asker("http", "legacy"), limits=limits) as w:
        ann, ben = Agent(w, http), Agent(w, http, "ben")
        states = [await ann.asked(), await ann.asked()]
        third = await ann.call("greet", {"who": "bob"})
        assert "too many calls wait" in json.dumps(third)
        assert await ben.asked()
        back = await ann.call("greet", {"who": "bob"}, requestState=states[0], **ann.answers())
        assert said(back) == "bob: ann"


async def test_names_of_one_address_park_no_more_than_three_quarters_of_all(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    limits = {"parked_per_principal": 1, "parked_calls": 4}
    async with world(asker("http", "legacy"), limits=limits) as w:
        for name in ("a", "b", "c"):
            assert await Agent(w, http, name).asked()
        refused = await Agent(w, http, "d").call("greet", {"who": "bob"})
        assert "too many calls wait" in json.dumps(refused)


async def test_a_parked_call_keeps_no_other_call_from_being_served(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    """It has lent its place: an upstream with a single one goes on serving."""
    async with world({**asker("http", "legacy"), "max_in_flight": 1}) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        assert said(await Agent(w, http, "ben").call("add", {"a": 1, "b": 2})) == "3"
        assert said(await ann.call("greet", {"who": "bob"}, requestState=state, **ann.answers())) == "bob: ann"
        assert said(await ann.call("add", {"a": 1, "b": 2})) == "3"


async def test_a_connection_that_is_lost_under_a_parked_call_leaves_its_outcome_unknown(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("stdio", "legacy")) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        connection = w.gateway.pool.upstreams[0].connections.main
        await connection.close()
        answer = await ann.call("greet", {"who": "bob"}, requestState=state, **ann.answers())
        assert answer["result"]["_meta"]["dev.radium.gateway/outcome"] == "unknown"


async def test_gateways_that_share_a_key_pass_states_of_modern_servers_to_each_other(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    key = "0123456789abcdef0123456789abcdef"
    shared = {"state_keys": (key,)}
    server = asker("http", "modern")
    async with world(server, **shared) as one, world(server, **shared) as other, world(server) as third:
        ann = Agent(one, http)
        state = await ann.asked()
        refused = await Agent(third, http).call("greet", {"who": "bob"}, requestState=state, **ann.answers())
        assert refusal(refused) == REFUSED
        back = await Agent(other, http).call("greet", {"who": "bob"}, requestState=state, **ann.answers())
        assert said(back) == "bob: ann"


async def test_a_call_that_waits_for_answers_is_finished_before_the_gateway_stops(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("stdio", "legacy"), drain_timeout=20) as w:
        ann = Agent(w, http)
        state = await ann.asked()
        stopping = asyncio.create_task(w.gateway.drain())
        await w.until(lambda: w.gateway.draining)
        async with aiohttp.ClientSession() as elsewhere:  # a person took so long that the connection is gone
            back = Agent(w, elsewhere)
            refused = await back.call("add", {"a": 1, "b": 2})
            assert "stopping" in refused["error"]["message"]
            assert said(await back.call("greet", {"who": "bob"}, requestState=state, **ann.answers())) == "bob: ann"
        await asyncio.wait_for(stopping, 10)


async def test_no_call_waits_for_the_answers_of_an_agent_on_stdio_that_left(
    asker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stdin, to), (answers, stdout) = os.pipe(), os.pipe()
    upstream = UpstreamConfig(**{"name": "asker", **asker("stdio", "legacy")})
    gateway = Gateway(Config(None, ProxyConfig(enable=True, upstreams=(upstream,), drain_timeout=60)))
    server = gateway.downstream.stdio_server(stdin, stdout)
    monkeypatch.setattr(gateway.downstream, "stdio_server", lambda **_: server)
    await gateway.start(listen=False)
    await gateway.wait_first_discovery(20)
    serving = asyncio.create_task(gateway.serve_stdio())
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }
    params = {"name": "greet", "arguments": {"who": "bob"}, "_meta": meta}
    os.write(to, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n")
    async with asyncio.timeout(10):
        while not gateway.input_required.parking:
            await asyncio.sleep(0.01)
    os.close(to)
    await asyncio.wait_for(serving, 10)
    await asyncio.wait_for(gateway.drain(), 10)
    for descriptor in (stdin, answers, stdout):
        os.close(descriptor)


async def test_an_operator_sees_a_parked_call_and_cancels_it(
    world: Any, asker: Any, http: aiohttp.ClientSession
) -> None:
    async with world(asker("http", "legacy")) as w:
        agent = Agent(w, http)
        state = await agent.asked()
        (shown,) = w.gateway.live.listing()
        assert (shown["parked"], shown["name"], shown["upstream"]) == (True, "greet", "asker")
        assert not w.gateway.live.cancel("another")
        assert w.gateway.live.cancel(shown["id"])
        assert w.gateway.live.listing() == []
        assert not w.gateway.live.cancel(shown["id"])
        assert refusal(await agent.call("greet", {"who": "bob"}, requestState=state, **agent.answers())) == REFUSED
