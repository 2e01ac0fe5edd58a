"""Questions of plugins to the agent's user, in both eras, over Streamable HTTP and by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import mcp_types as types
import pytest
from mcp import MCPError

from gateway_core import Answer, Ask, CallResult, Reject, hookimpl
from gateway_core.testing import configured

from .test_parking import REFUSED, Agent, refusal, said

ERAS = pytest.mark.parametrize("era", ["legacy", "modern"])
FORM = {
    "type": "object",
    "properties": {"reason": {"type": "string", "minLength": 3}, "hours": {"type": "integer", "maximum": 8}},
    "required": ["reason"],
}
SUM = {"a": 1, "b": 2}


class Approval:
    """Asks about every call of `add`, and passes what the user accepts."""

    methods = frozenset({"tools/call", "prompts/get", "tools/list", "completion/complete"})

    def __init__(self, *asks: Ask, about: frozenset[str] = frozenset({"add"})) -> None:
        self.asks = asks or (Ask("May it add?", name="approval"),)
        self.about = about
        self.runs = 0
        self.answers: list[Answer] = []
        self.ends: list[str] = []

    @hookimpl
    def before_call(self, call: Any) -> Any:
        self.runs += 1
        if call.name not in self.about:
            return None
        for ask in self.asks:
            answer = call.answers.get(ask.name)
            if answer is None:
                return ask
            if not answer.accepted:
                self.answers.append(answer)
                return Reject(f"the user said {answer.action}")
        self.answers += [call.answers[ask.name] for ask in self.asks]
        return None

    @hookimpl
    def after_call(self, call: Any, result: CallResult) -> None:
        if call.name in self.about:
            self.ends.append(str(result.outcome))


class Counter:
    """Counts the calls that it sees, and those that continue others."""

    def __init__(self) -> None:
        self.first = self.later = 0

    @hookimpl
    def before_call(self, call: Any) -> None:
        if call.continues:
            self.later += 1
        else:
            self.first += 1


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`plugins(approval, counter)`: the plugins of every gateway of this test."""

    def use(*given: object) -> None:
        loaded = [configured(plugin, name=type(plugin).__name__.lower()) for plugin in given]
        monkeypatch.setattr("gateway_core.hooks.loader.load", lambda *_, **__: loaded)

    return use


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def answering(action: str, asked: list[Any], content: Any = None) -> Any:
    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params)
        return types.ElicitResult(action=action, content=content)

    return elicit


def text(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


@ERAS
async def test_a_call_goes_on_once_the_user_accepts(world: Any, asker: Any, plugins: Any, era: str) -> None:
    approval, counter, asked = Approval(), Counter(), []
    plugins(counter, approval)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=answering("accept", asked))
        assert text(await client.call_tool("add", SUM)) == "3"
        assert w.gateway.status()["parked"] == 0
        assert w.gateway.downstream.gate.in_flight == 0
    assert [params.message for params in asked] == ["May it add?"]
    assert asked[0].requested_schema == {"type": "object", "properties": {}}
    meta = asked[0].model_dump(by_alias=True)["_meta"]
    assert meta["dev.radium.gateway/upstream"] is None
    assert meta["dev.radium.gateway/plugin"] == "approval"
    assert approval.answers == [Answer("accept")]
    # A modern retry is another request: all plugins run again. A legacy call goes on where it was.
    assert (counter.first, counter.later) == ((1, 1) if era == "modern" else (1, 0))
    assert approval.ends == (["asked", "ok"] if era == "modern" else ["ok"])


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_the_plugin_gets_a_decline_and_a_cancel_and_nothing_is_sent(
    world: Any, asker: Any, plugins: Any, era: str, action: str
) -> None:
    approval, asked = Approval(about=frozenset({"greet"})), []
    plugins(approval)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=answering(action, asked))
        with pytest.raises(MCPError, match=f"the user said {action}") as refused:
            await client.call_tool("greet", {"who": f"{era}-{action}"})
        assert refused.value.error.code == -31003
        assert f"{era}-{action}" not in (await w.journal())["begun"]
    assert approval.answers == [Answer(action)]
    assert len(asked) == 1


@ERAS
async def test_a_form_reaches_the_plugin_with_the_values_of_its_fields_alone(
    world: Any, asker: Any, plugins: Any, era: str
) -> None:
    approval, asked = Approval(Ask("Why?", schema=FORM)), []
    plugins(approval)
    content = {"reason": "because", "hours": 2, "else": "x"}
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=answering("accept", asked, content))
        assert text(await client.call_tool("add", SUM)) == "3"
    assert asked[0].requested_schema == FORM
    assert approval.answers == [Answer("accept", {"reason": "because", "hours": 2})]
    with pytest.raises(TypeError):
        approval.answers[0].content["reason"] = "other"  # type: ignore[index]


@ERAS
async def test_a_url_is_passed_on_with_what_the_era_requires(world: Any, asker: Any, plugins: Any, era: str) -> None:
    approval, asked = Approval(Ask("Log in", url="https://login.example.com/a?b=c")), []
    plugins(approval)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=answering("accept", asked))
        assert text(await client.call_tool("add", SUM)) == "3"
    assert (asked[0].mode, asked[0].url) == ("url", "https://login.example.com/a?b=c")
    assert bool(asked[0].elicitation_id) is (era == "legacy")


@ERAS
async def test_a_plugin_may_ask_twice_and_two_plugins_may_ask(world: Any, asker: Any, plugins: Any, era: str) -> None:
    asked: list[Any] = []
    two = Approval(Ask("first", name="one"), Ask("second", name="two"))
    other = Approval(Ask("third", name="one"))
    other.__class__ = type("Other", (Approval,), {})
    plugins(two, other)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=answering("accept", asked))
        assert text(await client.call_tool("add", SUM)) == "3"
    assert [params.message for params in asked] == ["first", "second", "third"]
    assert len(other.answers) == 1


@ERAS
async def test_a_plugin_that_never_has_enough_ends_the_call(world: Any, asker: Any, plugins: Any, era: str) -> None:
    class Never:
        @hookimpl
        def before_call(self, call: Any) -> Ask:
            return Ask("again?")

    plugins(Never())
    asked: list[Any] = []
    async with world(asker("http", "modern")) as w:
        client = (
            await w.client(era, "ann", elicitation_callback=answering("accept", asked), input_required_max_rounds=50)
            if era == "modern"
            else await w.client(era, "ann", elicitation_callback=answering("accept", asked))
        )
        with pytest.raises(MCPError, match="16 questions were asked"):
            await client.call_tool("add", SUM)
    assert len(asked) == 16


@ERAS
@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_rounds_of_the_upstream_do_not_ask_the_user_again(
    world: Any, asker: Any, plugins: Any, era: str, server: str
) -> None:
    approval = Approval(about=frozenset({"greet"}))
    plugins(approval)
    async with world(asker("http", server)) as w:
        client = await w.client(era, "ann")
        assert text(await client.call_tool("greet", {"who": "bob", "rounds": 2})) == "bob: ann ann"
        assert w.asked["ann"] == ["May it add?", "bob, name 1?", "bob, name 2?"]


@pytest.mark.parametrize("server", ["legacy", "modern"])
async def test_a_plugin_may_ask_in_a_later_round_and_the_upstream_gets_its_answers(
    world: Any, asker: Any, plugins: Any, server: str
) -> None:
    rounds: list[bool] = []

    class Late:
        @hookimpl
        def before_call(self, call: Any) -> Ask | None:
            rounds.append(call.continues)
            return Ask("really?") if len(rounds) == 2 else None

    plugins(Late())
    async with world(asker("http", server)) as w:
        client = await w.client("modern", "ann")
        assert text(await client.call_tool("greet", {"who": "bob"})) == "bob: ann"
        assert w.asked["ann"] == ["bob, name 1?", "really?"]
    assert rounds == [False, False, True], "the round of the upstream is another one, the answer to the plugin is not"


@ERAS
async def test_an_agent_that_did_not_declare_what_is_needed_is_refused_with_what_is_missing(
    world: Any, asker: Any, plugins: Any, era: str
) -> None:
    approval = Approval()
    plugins(approval)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=None)
        with pytest.raises(MCPError, match=r"did not declare the capability elicitation\.form") as refused:
            await client.call_tool("add", SUM)
    error = refused.value.error
    assert error.code == (-32021 if era == "modern" else -31003)
    assert error.data["requiredCapabilities"] == {"elicitation": {"form": {}}}
    assert error.data["plugin"] == "approval"
    assert approval.ends == ["refused"]


async def test_a_request_that_cannot_carry_the_question_is_refused_with_what_is_missing(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern")) as w:
        headers = await opened(w, http) | {"Accept": "application/json"}
        async with http.post(w.url, json=CALL, headers=headers) as response:
            answer = await response.json()
    assert answer["error"]["code"] == -31003
    assert "text/event-stream" in answer["error"]["data"]["missing"]


CALL = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "add", "arguments": SUM}}


async def opened(w: Any, http: aiohttp.ClientSession) -> dict[str, str]:
    """Open a legacy session; returns the headers of its requests."""
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    params = {
        "protocolVersion": "2025-11-25",
        "clientInfo": {"name": "ann", "version": "1"},
        "capabilities": {"elicitation": {}},
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    async with http.post(w.url, json=body, headers=headers) as response:
        return headers | {"Mcp-Session-Id": response.headers["Mcp-Session-Id"]}


@ERAS
@pytest.mark.parametrize("method", ["tools/list", "completion/complete"])
async def test_a_method_that_cannot_wait_for_the_user_is_refused(
    world: Any, asker: Any, plugins: Any, era: str, method: str
) -> None:
    class Always:
        methods = frozenset({"tools/list", "completion/complete"})

        @hookimpl
        def before_call(self, call: Any) -> Ask:
            return Ask("may it?")

    plugins(Always())
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann")
        prompt = types.PromptReference(type="ref/prompt", name="brief")
        complete = partial(client.complete, prompt, {"name": "a", "value": ""})
        with pytest.raises(MCPError, match=f"clients cannot be asked about {method}"):
            await (client.list_tools if method == "tools/list" else complete)()
        assert w.asked["ann"] == []


async def test_a_question_about_a_prompt_works_too(world: Any, asker: Any, plugins: Any) -> None:
    plugins(Approval(about=frozenset({"brief"})))
    async with world(asker("stdio", "legacy")) as w:
        client = await w.client("modern", "ann")
        found = await client.get_prompt("brief", {})
        assert found.messages[0].content.text == "a brief for ann"
        assert w.asked["ann"] == ["May it add?", "audience?"]


async def test_a_legacy_user_who_does_not_answer_in_time_ends_the_call(world: Any, asker: Any, plugins: Any) -> None:
    approval = Approval(Ask("May it?", lifetime=0.3), about=frozenset({"greet"}))
    plugins(approval)
    withdrawn = asyncio.Event()

    async def never(context: Any, params: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()

    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=never)
        with pytest.raises(MCPError, match=r"there was no answer within 0\.3 s; the call was not executed"):
            await client.call_tool("greet", {"who": "lapsed"})
        async with asyncio.timeout(5):
            await withdrawn.wait()  # the gateway has cancelled its question
        assert "lapsed" not in (await w.journal())["begun"]
        assert w.gateway.status()["parked"] == 0


async def test_a_legacy_answer_that_is_no_answer_ends_the_call(world: Any, asker: Any, plugins: Any) -> None:
    plugins(Approval(Ask("Why?", schema=FORM)))
    for content, problem in (({"reason": "x"}, "reason is not within"), ({}, "reason is missing")):
        async with world(asker("http", "modern")) as w:
            client = await w.client("legacy", "ann", elicitation_callback=answering("accept", [], content))
            with pytest.raises(MCPError, match=problem):
                await client.call_tool("add", SUM)


async def test_a_legacy_client_that_answers_with_an_error_ends_the_call(world: Any, asker: Any, plugins: Any) -> None:
    async def refuse(context: Any, params: Any) -> Any:
        return types.ErrorData(code=-1, message="no display")

    plugins(Approval())
    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=refuse)
        with pytest.raises(MCPError, match="no display"):
            await client.call_tool("add", SUM)


async def test_a_legacy_call_that_waits_holds_no_place(world: Any, asker: Any, plugins: Any) -> None:
    plugins(Approval())
    free, asked = asyncio.Event(), asyncio.Event()

    async def slowly(context: Any, params: Any) -> types.ElicitResult:
        asked.set()
        await free.wait()
        return types.ElicitResult(action="accept", content={})

    async with world({**asker("http", "modern"), "max_in_flight": 1}, timeout=1.0) as w:
        client = await w.client("legacy", "ann", elicitation_callback=slowly)
        waiting = asyncio.create_task(client.call_tool("add", SUM))
        await asked.wait()
        assert w.gateway.status()["parked"] == 1
        assert w.gateway.downstream.gate.in_flight == 0
        assert w.gateway.pool.upstreams[0].facts.in_flight == 0
        await asyncio.sleep(1.2)  # the user's time does not count against the deadline of the call
        free.set()
        assert text(await waiting) == "3"
        assert w.gateway.status()["parked"] == 0
        await w.until(lambda: w.gateway.downstream.gate.in_flight == 0)


async def test_a_legacy_call_that_is_cancelled_while_the_user_is_asked_withdraws_the_question(
    world: Any, asker: Any, plugins: Any
) -> None:
    approval = Approval()
    plugins(approval)
    asked, withdrawn = asyncio.Event(), asyncio.Event()

    async def never(context: Any, params: Any) -> Any:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()

    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=never)
        waiting = asyncio.create_task(client.call_tool("add", SUM))
        await asked.wait()
        waiting.cancel()
        async with asyncio.timeout(5):
            await withdrawn.wait()
        await w.until(lambda: not w.gateway.input_required.parking and not w.gateway.downstream.gate.in_flight)
        assert approval.ends == ["cancelled"]


async def test_a_legacy_call_that_waits_when_the_gateway_ends_was_not_executed(
    world: Any, asker: Any, plugins: Any
) -> None:
    plugins(Approval())
    asked = asyncio.Event()

    async def never(context: Any, params: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=never)
        waiting = asyncio.create_task(client.call_tool("add", SUM))
        await asked.wait()
        w.gateway.pipeline.end_all("the gateway is stopping")
        with pytest.raises(MCPError, match=r"the gateway is stopping.*was not executed"):
            await waiting


# What a modern agent brings back


async def asked_about(agent: Agent, tool: str = "add", arguments: Any = None) -> str:
    result = (await agent.call(tool, SUM if arguments is None else arguments))["result"]
    assert result["resultType"] == "input_required"
    assert list(result["inputRequests"]) == ["approval"]
    return str(result["requestState"])


ACCEPT = {"inputResponses": {"approval": {"action": "accept", "content": {}}}}
DECLINE = {"inputResponses": {"approval": {"action": "decline"}}}


async def test_an_approval_counts_once_for_its_agent_and_its_call(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    approval = Approval(about=frozenset({"add", "greet"}))
    plugins(approval)
    async with world(asker("http", "modern")) as w:
        ann, eve = Agent(w, http), Agent(w, http, "eve")
        state = await asked_about(ann)
        altered = state[:-8] + ("A" if state[-8] != "A" else "B") + state[-7:]
        attempts = [
            await ann.call("add", SUM, requestState=altered, **ACCEPT),
            await eve.call("add", SUM, requestState=state, **ACCEPT),
            await ann.call("add", {"a": 1, "b": 3}, requestState=state, **ACCEPT),
            await ann.call("greet", SUM, requestState=state, **ACCEPT),
        ]
        assert {refusal(attempt) for attempt in attempts} == {REFUSED}
        assert approval.answers == []
        spaced = {"b": 2, "a": 1}
        assert said(await ann.call("add", spaced, requestState=state, **ACCEPT)) == "3"
        assert refusal(await ann.call("add", SUM, requestState=state, **ACCEPT)) == REFUSED
        assert len(approval.answers) == 1


async def test_of_two_retries_at_once_one_counts(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern")) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        retries = (Agent(w, http).call("add", SUM, requestState=state, **ACCEPT) for _ in range(8))
        answers = await asyncio.gather(*retries)
    assert sorted("result" in answer for answer in answers) == [False] * 7 + [True]


async def test_after_a_decline_the_state_is_used(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern")) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        declined = await ann.call("add", SUM, requestState=state, **DECLINE)
        assert "the user said decline" in declined["error"]["message"]
        assert refusal(await ann.call("add", SUM, requestState=state, **ACCEPT)) == REFUSED


async def test_an_approval_lapses(world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession) -> None:
    plugins(Approval(Ask("May it?", name="approval", lifetime=0.2)))
    async with world(asker("http", "modern")) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        assert w.gateway.status()["parked"] == 1
        await w.until(lambda: w.gateway.status()["parked"] == 0)
        assert refusal(await ann.call("add", SUM, requestState=state, **ACCEPT)) == REFUSED


async def test_malformed_answers_do_not_cost_the_state_and_a_missing_one_is_asked_for_again(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval(Ask("Why?", schema=FORM, name="approval")))
    async with world(asker("http", "modern")) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        for content, problem in (
            ({"reason": "no"}, "approval.content.reason is not within minLength and maxLength"),
            ({"reason": 7}, "approval.content.reason must be of the type string"),
            ({}, "approval.content.reason is missing"),
            ({"reason": "because", "hours": 9}, "approval.content.hours is not within minimum and maximum"),
            ({"reason": "because", "hours": 1.5}, "approval.content.hours must be of the type integer"),
            ([], "approval.content must be an object"),
        ):
            given = {"approval": {"action": "accept", "content": content}}
            answer = await ann.call("add", SUM, requestState=state, inputResponses=given)
            assert problem in refusal(answer)
        maybe = {"approval": {"action": "maybe"}}
        assert "action must be" in refusal(await ann.call("add", SUM, requestState=state, inputResponses=maybe))
        again = (await ann.call("add", SUM, requestState=state, inputResponses={"other": {}}))["result"]
        assert list(again["inputRequests"]) == ["approval"]
        right = {"approval": {"action": "accept", "content": {"reason": "because"}}}
        final = await ann.call("add", SUM, requestState=again["requestState"], inputResponses=right)
        assert said(final) == "3"


async def test_questions_count_as_parked_calls(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern"), limits={"parked_per_principal": 2}) as w:
        ann, ben = Agent(w, http), Agent(w, http, "ben")
        states = [await asked_about(ann), await asked_about(ann)]
        third = await ann.call("add", SUM)
        assert third["error"]["code"] == -31005
        assert third["error"]["data"]["retryAfterMs"] == 1000
        await asked_about(ben)
        assert said(await ann.call("add", SUM, requestState=states[0], **ACCEPT)) == "3"
        await asked_about(ann)


async def test_an_approval_of_a_call_that_could_not_be_sent_counts_for_the_next_try(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("stdio", "modern")) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        upstream = w.gateway.pool.upstreams[0]
        healthy = upstream.facts.state
        upstream.facts.enter(type(healthy).DOWN)
        away = await ann.call("add", SUM, requestState=state, **ACCEPT)
        assert away["error"]["code"] == -31001
        upstream.facts.enter(healthy)
        assert said(await ann.call("add", SUM, requestState=state, **ACCEPT)) == "3"
        assert refusal(await ann.call("add", SUM, requestState=state, **ACCEPT)) == REFUSED


async def test_an_approval_of_a_tool_that_changed_meanwhile_is_asked_for_again(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    """The name leads to another upstream when the answer comes."""
    approval = Approval()
    plugins(approval)
    one, other = {**asker("http", "modern"), "name": "asker"}, {**asker("http", "legacy"), "name": "other"}
    async with world(one, other) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        catalog = w.gateway.catalog
        found = catalog.tool

        def moved(name: str, *of: str) -> Any:
            return found("other:add" if name == "add" else name, *of)

        catalog.tool = moved
        again = (await ann.call("add", SUM, requestState=state, **ACCEPT))["result"]
        assert again["resultType"] == "input_required"
        assert approval.answers == []
        assert said(await ann.call("add", SUM, requestState=again["requestState"], **ACCEPT)) == "3"


async def test_an_approval_counts_in_the_process_that_asked_alone(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    """Processes with the same keys remember used states each for itself."""
    plugins(Approval(about=frozenset({"add", "greet"})))
    shared = {"state_keys": ("0123456789abcdef0123456789abcdef",)}
    server = asker("http", "modern")
    async with world(server, **shared) as w, world(server, **shared) as other:
        ann, elsewhere = Agent(w, http), Agent(other, http)
        state = await asked_about(ann)
        assert refusal(await elsewhere.call("add", SUM, requestState=state, **ACCEPT)) == REFUSED
        assert said(await ann.call("add", SUM, requestState=state, **ACCEPT)) == "3"
        bob = {"who": "bob"}
        state = await asked_about(ann, "greet", bob)
        # The upstream asks after the approval, which this state carries.
        state = (await ann.call("greet", bob, requestState=state, **ACCEPT))["result"]["requestState"]
        named = {"inputResponses": {"name": {"action": "accept", "content": {"name": "ann"}}}}
        assert refusal(await elsewhere.call("greet", bob, requestState=state, **named)) == REFUSED
        assert said(await ann.call("greet", bob, requestState=state, **named)) == "bob: ann"


async def test_a_stopping_gateway_waits_for_the_answer_and_takes_it(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern"), drain_timeout=20) as w:
        ann = Agent(w, http)
        state = await asked_about(ann)
        stopping = asyncio.create_task(w.gateway.drain())
        await w.until(lambda: w.gateway.draining)
        assert said(await ann.call("add", SUM, requestState=state, **ACCEPT)) == "3"
        await asyncio.wait_for(stopping, 10)


async def test_a_stopping_gateway_lets_a_legacy_user_answer(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval())
    async with world(asker("http", "modern"), drain_timeout=20) as w:
        headers = await opened(w, http)
        async with http.post(w.url, json=CALL, headers=headers) as stream:
            question = await event(stream)
            stopping = asyncio.create_task(w.gateway.drain())
            await w.until(lambda: w.gateway.draining)
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {}}}
            async with http.post(w.url, json=answer, headers=headers) as taken:
                assert taken.status == 202
            assert said(await event(stream)) == "3"
        await asyncio.wait_for(stopping, 15)


async def event(stream: aiohttp.ClientResponse) -> Any:
    """The next message of an event stream."""
    async for line in stream.content:
        if line.startswith(b"data: {"):
            return json.loads(line.removeprefix(b"data: "))
    raise AssertionError("the stream has ended")


@ERAS
async def test_a_question_does_not_show_secrets_of_the_gateway(world: Any, asker: Any, plugins: Any, era: str) -> None:
    secret = "a-secret-of-the-gateway"
    plugins(Approval(Ask(f"May it? {secret}")))
    asked: list[Any] = []
    async with world({**asker("http", "modern"), "headers": {"Authorization": f"Bearer {secret}"}}) as w:
        client = await w.client(era, "ann", elicitation_callback=answering("accept", asked))
        assert text(await client.call_tool("add", SUM)) == "3"
    assert [params.message for params in asked] == ["May it? [REDACTED]"]


async def test_the_question_is_logged_with_its_answer_and_without_its_text(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loguru import logger

    lines: list[Any] = []
    handler = logger.add(lambda line: lines.append(line.record), level="INFO")
    try:
        plugins(Approval(Ask("hush", name="approval")))
        async with world(asker("http", "modern")) as w:
            ann = Agent(w, http)
            await ann.call("add", SUM, requestState=await asked_about(ann), **ACCEPT)
    finally:
        logger.remove(handler)
    answered = [line for line in lines if line["extra"].get("plugin") == "approval"]
    assert [line["message"] for line in answered] == ["the user was asked for plugin approval: accept"]
    assert "hush" not in json.dumps([line["message"] for line in lines])
