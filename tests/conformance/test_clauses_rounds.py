"""Clauses on questions in the middle of a call: 5, 20, 29, 30, 32, 33.

Sources: basic/patterns/mrtr, basic/index (Client Capabilities), client/elicitation (Security Considerations) of
2026-07-28; client/elicitation and basic/lifecycle of 2025-11-25.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

STATE = '{"step": 1} "quoted" \\ \u00e4\u2028'
"""No JSON writer leaves it as it is by accident."""
CLIENT_INFO, CAPABILITIES = "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/clientCapabilities"
UPSTREAM = "dev.radium.gateway/upstream"
ELICITATION = {"elicitation": {"form": {}, "url": {}}}
PAIRS = [(agent, server) for agent in ("legacy", "modern") for server in ("legacy", "modern")]
ROUNDROBIN = '[[mcp.proxy.plugins]]\nname = "routing_roundrobin"'


class Agent:
    """One that can be asked, of either era, by hand. `asked` holds the questions; it answers them with its name."""

    def __init__(self, stand: Any, era: str, name: str = "ann") -> None:
        self.stand, self.era, self.name = stand, era, name
        self.asked: list[dict[str, Any]] = []
        self.before_answering: Callable[[], Awaitable[object]] | None = None
        self._number = 0

    async def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool, answer what it asks, give the text of its result."""
        answer = await (self._legacy(tool, arguments) if self.era == "legacy" else self._modern(tool, arguments))
        assert "result" in answer, answer
        return str(answer["result"]["content"][0]["text"])

    async def first(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A modern agent's first round: the result that asks."""
        answer = (await self.request(tool, arguments)).json
        assert answer["result"]["resultType"] == "input_required", answer
        return dict(answer["result"])

    async def request(self, tool: str, arguments: Any = None, **params: Any) -> Any:
        self._number += 1
        meta = {CLIENT_INFO: {"name": self.name, "version": "1"}, CAPABILITIES: ELICITATION}
        params = {"name": tool, "arguments": arguments or {}, "_meta": meta, **params}
        return await self.stand.modern("tools/call", params, self._number)

    async def _modern(self, tool: str, arguments: Any) -> Any:
        asks = await self.first(tool, **arguments)
        questions = asks["inputRequests"]
        answers = {key: await self._answer(question) for key, question in questions.items()}
        state = {"requestState": asks["requestState"]} if "requestState" in asks else {}
        return (await self.request(tool, arguments, inputResponses=answers, **state)).json

    async def _legacy(self, tool: str, arguments: Any) -> Any:
        session = await self.stand.initialize(self.name, **ELICITATION)
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        async with self.stand.stream("POST", session, call) as events:
            while "method" in (message := await events.message()):
                response = {"jsonrpc": "2.0", "id": message["id"], "result": await self._answer(message)}
                await self.stand.send("POST", session, response)
        return message

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        assert question["method"] == "elicitation/create"
        self.asked.append(question["params"])
        if self.before_answering is not None:
            await self.before_answering()
        form = question["params"].get("mode") != "url"
        return {"action": "accept", **({"content": {"name": self.name}} if form else {})}


def answers_of(asks: dict[str, Any]) -> dict[str, Any]:
    """What a well-behaved agent brings back."""
    answers = {key: {"action": "accept", "content": {"name": "ann"}} for key in asks["inputRequests"]}
    return {"inputResponses": answers, "requestState": asks["requestState"]}


# -- 5, 20: what servers may ask ------------------------------------------------------------------------------------


async def test_clause_05_what_a_legacy_server_requests_is_a_result_for_modern_agents(legacy_stand: Any) -> None:
    answer = await Agent(legacy_stand, "modern").request("greet", {})
    assert answer.headers["Content-Type"] == "application/json", "one message, and no stream that could hold others"
    assert "method" not in answer.json
    (question,) = answer.json["result"]["inputRequests"].values()
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Your name?")


async def test_clause_05_what_a_modern_server_requests_goes_no_further(stand: Any, msg: Any) -> None:
    async def wire(seen: Any, send: Any) -> None:
        token = seen.params["_meta"]["progressToken"]
        messages = [
            msg.legacy("elicitation/create", {"message": "Your name?", "requestedSchema": {}}, 99),
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1}},
            {"jsonrpc": "2.0", "id": seen.body["id"], "result": {"resultType": "complete", "content": []}},
        ]
        body = "".join(f"data: {json.dumps(message)}\n\n" for message in messages)
        await msg.answer(send, 200, body.encode(), "text/event-stream")

    stand.lab.wires["echo"] = wire
    answer = await stand.modern("tools/call", msg.calling("echo", "t"))
    assert [message.get("method") for message in answer.messages] == ["notifications/progress", None]
    assert "result" in answer.json
    assert not any("method" not in seen.body for seen in stand.lab.seen if seen.body), "nor is it answered"


@pytest.mark.parametrize("declared", [{}, {"elicitation": {"form": {}}}, {"sampling": {"tools": {}}, "roots": {}}])
async def test_clause_20_upstreams_are_told_what_the_agent_declared(start: Any, msg: Any, declared: Any) -> None:
    stand = await start("modern", "legacy")
    modern, legacy = stand.labs.values()
    await stand.modern("tools/call", {**msg.calling("lab0:echo"), "_meta": {CAPABILITIES: declared}})
    session = await stand.initialize(**declared)
    await stand.legacy(session, "tools/call", msg.calling("lab0:echo"))
    assert [seen.params["_meta"][CAPABILITIES] for seen in modern.of("tools/call")] == [declared, declared]
    await stand.legacy(session, "tools/call", msg.calling("lab1:echo"))
    assert legacy.of("initialize")[-1].params["capabilities"] == declared, "the connection that is this agent's alone"


async def test_clause_20_an_agent_that_cannot_be_asked_learns_what_it_would_need(legacy_stand: Any, msg: Any) -> None:
    answer = await legacy_stand.modern("tools/call", msg.calling("greet"))
    assert (answer.status, answer.code) == (400, -32021)
    assert answer.json["error"]["data"]["requiredCapabilities"] == {"elicitation": {"form": {}}}


async def test_clause_20_no_agent_is_asked_what_it_did_not_declare(stand: Any, msg: Any) -> None:
    async def wire(seen: Any, send: Any) -> None:
        question = {"method": "elicitation/create", "params": {"message": "m", "requestedSchema": {}}}
        result = {"resultType": "input_required", "inputRequests": {"q": question}}
        await msg.answer(send, 200, json.dumps({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}).encode())

    stand.lab.wires["echo"] = wire
    session = await stand.initialize()
    for answer in (
        await stand.modern("tools/call", msg.calling("echo")),
        await stand.legacy(session, "tools/call", msg.calling("echo")),
    ):
        assert answer.code == -31002
        assert "did not declare the capability elicitation" in answer.json["error"]["message"]
        assert b"elicitation/create" in answer.body
        assert b"inputRequests" not in answer.body


# -- 29, 30: the state, and who gets it -----------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_29_a_state_goes_back_as_it_came_and_on_the_retry_alone(stand: Any, msg: Any, era: str) -> None:
    async def wire(seen: Any, send: Any) -> None:
        question = {"method": "elicitation/create", "params": {"message": "Your name?", "requestedSchema": {}}}
        asks = {"resultType": "input_required", "inputRequests": {"name": question}, "requestState": STATE}
        done = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
        result = done if "inputResponses" in seen.params else asks
        await msg.answer(send, 200, json.dumps({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}).encode())

    async def meanwhile() -> None:
        await stand.modern("tools/call", msg.calling("echo"))

    stand.lab.wires["greet"] = wire
    agent = Agent(stand, era)
    agent.before_answering = meanwhile
    assert await agent.call("greet") == "done"
    first, other, retry = stand.lab.of("tools/call")
    assert retry.params["requestState"] == STATE
    assert retry.params["inputResponses"]["name"]["content"] == {"name": "ann"}
    for seen in (first, other):
        assert not {"requestState", "inputResponses"} & seen.params.keys()
    assert len({seen.body["id"] for seen in (first, other, retry)}) == 3


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_29_a_state_is_good_for_its_call_and_its_agent_alone(start: Any, era: str) -> None:
    stand = await start(era)
    ann, eve = Agent(stand, "modern"), Agent(stand, "modern", "eve")
    asks = await ann.first("greet")
    state, back = asks["requestState"], answers_of(asks)
    altered = {**back, "requestState": state[:-1] + ("A" if state[-1] != "A" else "B")}
    for refused in (
        await ann.request("greet", **altered),
        await eve.request("greet", **back),
        await ann.request("echo", **back),
        await ann.request("greet", {"other": 1}, **back),
    ):
        assert (refused.status, refused.code) == (400, -32602)
    assert len(stand.lab.of("tools/call")) == 1, "nothing of it reaches the upstream"
    assert (await ann.request("greet", **back)).text == "Hello, ann"


async def test_clause_30_a_retry_goes_to_the_upstream_that_asked(start: Any) -> None:
    """Of two replicas the strategy chooses the other one for each request; a retry is not its to choose."""
    stand = await start("modern", "modern", proxy=ROUNDROBIN, each="priority = 1")
    ann = Agent(stand, "modern")
    for _ in range(2):
        assert await ann.call("greet") == "Hello, ann"
    for lab in stand.labs.values():
        assert ["requestState" in seen.params for seen in lab.of("tools/call")] == [False, True], lab.name


async def test_clause_30_where_it_is_gone_no_other_gets_its_state(start: Any) -> None:
    stand = await start("modern", "modern", proxy=ROUNDROBIN, each="priority = 1")
    ann = Agent(stand, "modern")
    asks = await ann.first("greet")
    asking, other = sorted(stand.labs.values(), key=lambda lab: not lab.of("tools/call"))
    await asking.stop()
    gone = await ann.request("greet", **answers_of(asks))
    assert gone.code == -31001
    assert asking.name in gone.json["error"]["message"]
    assert not other.of("tools/call")


# -- 32, 33: whose question it is, and what is in it ----------------------------------------------------------------


@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_clause_32_a_question_reaches_the_agent_whose_call_raised_it(start: Any, server: str) -> None:
    """Four agents of both eras, none of which answers before all have been asked."""
    stand = await start(server)
    everybody = asyncio.Barrier(4)
    agents = [Agent(stand, era, f"{name}-{era}") for name in ("ann", "ben") for era in ("legacy", "modern")]
    for agent in agents:
        agent.before_answering = everybody.wait
    async with asyncio.timeout(10):
        greetings = await asyncio.gather(*(agent.call("greet") for agent in agents))
    assert greetings == [f"Hello, {agent.name}" for agent in agents]
    assert [len(agent.asked) for agent in agents] == [1, 1, 1, 1]


@pytest.mark.parametrize(("agent", "server"), PAIRS)
async def test_clause_32_a_question_says_which_server_asks(start: Any, agent: str, server: str) -> None:
    stand = await start(server)
    ann = Agent(stand, agent)
    await ann.call("greet")
    assert [params["_meta"][UPSTREAM] for params in ann.asked] == ["lab0"]


@pytest.mark.parametrize(
    ("agent", "server", "tool"), [(*pair, "visit") for pair in PAIRS] + [("modern", "legacy", "needs_visit")]
)
async def test_clause_33_a_url_that_is_to_be_opened_is_not_fetched(
    start: Any, agent: str, server: str, tool: str
) -> None:
    connections: list[object] = []
    listener = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    async with listener:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/consent"
        stand = await start(server)
        ann = Agent(stand, agent)
        assert await ann.call(tool, url=url) == "visited"
        assert [params["url"] for params in ann.asked] == [url]
        assert not connections
