"""Questions in the middle of a call, between agents and servers of either era, over real transports."""

import asyncio
from typing import Any

import pytest
from mcp import MCPError
from mcp.shared.exceptions import MCPDeprecationWarning

from gateway_core.api import Principal
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall
from gateway_core.pipeline.input_required.relay import input_required

PAIRS = [(agent, server) for agent in ("legacy", "modern") for server in ("legacy", "modern")]
TRANSPORTS = ["stdio", "http"]


def text(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("agent", "server"), PAIRS)
async def test_a_call_may_ask_three_times(world: Any, asker: Any, agent: str, server: str, transport: str) -> None:
    async with world(asker(transport, server)) as w:
        client = await w.client(agent, "ann")
        assert text(await client.call_tool("greet", {"who": "bob", "rounds": 3})) == "bob: ann ann ann"
        assert w.asked["ann"] == ["bob, name 1?", "bob, name 2?", "bob, name 3?"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("agent", "server"), PAIRS)
async def test_a_call_may_ask_several_things_at_once(
    world: Any, asker: Any, agent: str, server: str, transport: str
) -> None:
    async with world(asker(transport, server)) as w:
        client = await w.client(agent, "ann")
        answer = text(await client.call_tool("all_at_once", {"who": "bob"}))
        assert answer == "bob: ann thought by ann file:///ann"
        assert sorted(w.asked["ann"]) == ["bob?", "roots", "think of bob"]


@pytest.mark.parametrize("isolation", ["agent", "call"])
@pytest.mark.parametrize(("agent", "server"), PAIRS)
async def test_no_agent_gets_the_question_of_another(
    world: Any, asker: Any, agent: str, server: str, isolation: str
) -> None:
    """Several clients ask, three rounds deep, while fifty other calls run on the same upstream."""
    async with world({**asker("stdio", server), "isolation": isolation}) as w:
        names = ["ann", "ben"]
        clients = [await w.client(era, f"{name}-{era}") for name in names for era in ("legacy", "modern")]
        other = await w.client(agent, "other")

        async def greeted(client: Any, name: str) -> None:
            assert text(await client.call_tool("greet", {"who": name, "rounds": 3})) == f"{name}: {name} {name} {name}"

        async def adds() -> None:
            for number in range(50):
                assert text(await other.call_tool("add", {"a": number, "b": 1})) == str(number + 1)

        owners = [f"{name}-{era}" for name in names for era in ("legacy", "modern")]
        await asyncio.gather(adds(), *(greeted(client, owner) for client, owner in zip(clients, owners, strict=True)))
        for owner in owners:
            assert w.asked[owner] == [f"{owner}, name {number}?" for number in (1, 2, 3)]
        assert w.asked["other"] == []


@pytest.mark.parametrize("agent", ["legacy", "modern"])
async def test_an_ambiguous_question_is_refused_with_the_word_that_helps(world: Any, asker: Any, agent: str) -> None:
    asked = asyncio.Event()

    async def slow(context: Any, params: Any) -> Any:
        asked.set()
        await asyncio.sleep(60)

    async with world(asker("stdio", "legacy")) as w:
        first = await w.client("legacy", "slow", elicitation_callback=slow)
        second = await w.client(agent, "ann")
        held = asyncio.create_task(first.call_tool("greet", {"who": "slow"}))
        await asked.wait()
        with pytest.raises(MCPError, match=r'isolation = "agent" or "call" for upstream \'asker\''):
            await second.call_tool("greet", {"who": "ann"})
        assert w.asked["ann"] == []
        held.cancel()


@pytest.mark.parametrize("server", ["legacy", "modern"])
@pytest.mark.parametrize("agent", ["legacy", "modern"])
async def test_an_agent_that_cannot_be_asked_is_not_asked(world: Any, asker: Any, agent: str, server: str) -> None:
    async with world(asker("stdio", server)) as w:
        client = await w.client(agent, "ann", elicitation_callback=None)
        with pytest.raises(MCPError, match="elicitation") as refused:
            await client.call_tool("greet", {"who": "bob"})
        assert w.asked["ann"] == []
        if (agent, server) == ("modern", "legacy"):
            assert refused.value.error.code == -32021
            assert refused.value.error.data["requiredCapabilities"]["elicitation"] is not None


@pytest.mark.parametrize("agent", ["legacy", "modern"])
async def test_prompts_may_ask_too(world: Any, asker: Any, agent: str) -> None:
    async with world(asker("stdio", "legacy")) as w:
        client = await w.client(agent, "ann")
        found = await client.get_prompt("brief", {})
        assert found.messages[0].content.text == "a brief for ann"


async def test_a_url_that_a_legacy_server_needs_is_a_question_to_a_modern_agent(world: Any, asker: Any) -> None:
    async with world(asker("http", "legacy")) as w:
        client = await w.client("modern", "ann")
        assert text(await client.call_tool("needs_url", {"who": "ann"})) == "ann was there"
        assert w.asked["ann"] == ["open it"]


async def test_the_answer_of_a_legacy_agent_that_refuses_reaches_a_modern_server(world: Any, asker: Any) -> None:
    async def refuse(context: Any, params: Any) -> Any:
        import mcp_types as types

        return types.ErrorData(code=-1, message="no")

    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=refuse)
        assert text(await client.call_tool("greet", {"who": "bob"})) == "bob: cancel"


async def test_a_server_learns_that_the_roots_of_its_agent_have_changed(world: Any, asker: Any) -> None:
    async with world({**asker("stdio", "legacy"), "isolation": "agent"}) as w:
        client = await w.client("legacy", "ann")
        assert text(await client.call_tool("add", {"a": 1, "b": 1})) == "2"
        with pytest.warns(MCPDeprecationWarning):
            await client.send_roots_list_changed()
        async with asyncio.timeout(5):
            while "other roots" not in text(await client.call_tool("journal", {})):
                await asyncio.sleep(0.01)


async def test_simultaneous_questions_move_the_hard_maximum_once() -> None:
    class Slow:
        def notify(self, method: str, params: bytes) -> None:
            raise AssertionError

        async def ask(self, method: str, params: bytes) -> bytes:
            await asyncio.sleep(0.2)
            return b"{}"

    exchange = Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call", Slow())
    exchange.begin(InlineCall(Deadlines(), longest=100.0), 60, 1)
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(exchange.ask("u", "roots/list", b"{}") for _ in range(20)))
    passed = asyncio.get_running_loop().time() - started
    assert 0.15 < exchange.waited <= passed
    assert 100.15 < exchange.deadline.hard_limit <= 100.0 + passed


@pytest.mark.parametrize("spelling", [b"input_required", b"input\\u005frequired"])
def test_a_question_is_known_however_it_is_spelt(spelling: bytes) -> None:
    asked = input_required(b'{"resultType":"%b","inputRequests":{"r":{"method":"roots/list"}}}' % spelling)
    assert asked is not None
    assert list(asked.questions) == ["r"]
