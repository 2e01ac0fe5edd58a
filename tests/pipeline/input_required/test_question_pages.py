"""Questions that a person answers on a page of the gateway, while clients of the official SDK wait."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import mcp_types as types
import pytest
from mcp import MCPError

from gateway_core import Ask, CallEnded, Event, Principal, hookimpl
from gateway_core.api import Call
from gateway_core.concealing import QUESTION_PAGES
from gateway_core.errors import REJECTED, RpcError
from gateway_core.hooks import Question
from gateway_core.pipeline.input_required import plugin_questions
from gateway_core.pipeline.input_required.question_pages import QuestionPages, opened

from .test_parking import REFUSED, Agent, refusal, said
from .test_plugin_questions import ERAS, FORM, SUM, Approval, Counter, http, plugins, text

__all__ = ["http", "plugins"]  # fixtures

ON_PAGE = Ask("May it add? <b>", name="approval", on_page=True)


@dataclass
class Person:
    """A person whose client opens addresses: the browser, and what it was sent to."""

    http: aiohttp.ClientSession
    answer: str | None = "approve"
    """None to open the page and do nothing."""
    action: str = "accept"
    """What the client answers."""
    opened: list[Any] = field(default_factory=list)
    ends: list[tuple[int, str]] = field(default_factory=list)
    working: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.opened.append(params)
        if self.action == "accept" and self.answer is not None:
            task = asyncio.create_task(self.click(params.url))
            self.working.add(task)
        return types.ElicitResult(action=self.action)  # type: ignore[arg-type]

    async def click(self, url: str, delay: float = 0.2) -> None:
        await asyncio.sleep(delay)
        async with self.http.post(url, data={"answer": self.answer}) as response:
            self.ends.append((response.status, await response.text()))


@pytest.fixture
async def person(http: aiohttp.ClientSession) -> AsyncIterator[Person]:
    found = Person(http)
    yield found
    for task in found.working:
        task.cancel()


@ERAS
async def test_a_call_goes_on_once_a_person_approves_it_on_the_page(
    world: Any, asker: Any, plugins: Any, person: Person, era: str
) -> None:
    approval, counter = Approval(ON_PAGE), Counter()
    plugins(counter, approval)
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=person)
        assert text(await client.call_tool("add", SUM)) == "3"
        assert w.gateway.status()["parked"] == len(w.gateway.input_required.pages) == 0
        assert w.gateway.downstream.gate.in_flight == 0
        (asked,) = person.opened
        assert asked.mode == "url"
        assert asked.url.startswith(f"{w.gateway.address}{QUESTION_PAGES}")
        assert person.ends[0][0] == 200
        await person.click(asked.url, 0)
        assert person.ends[1][0] == 404, "answered once"
    assert (counter.first, counter.later) == ((1, 1) if era == "modern" else (1, 0))


@ERAS
async def test_observers_see_who_answered(world: Any, asker: Any, plugins: Any, person: Person, era: str) -> None:
    seen = list[CallEnded]()

    class Observer:
        @hookimpl
        def observe(self, event: Event) -> None:
            if isinstance(event, CallEnded) and event.method == "tools/call":
                seen.append(event)

    plugins(Observer(), Approval(ON_PAGE))
    person.answer = None
    async with world(asker("http", "modern")) as w:
        client = await w.client(era, "ann", elicitation_callback=person)
        call = asyncio.create_task(client.call_tool("add", SUM))
        pages = w.gateway.input_required.pages
        await w.until(lambda: len(pages) == 1)
        assert pages.decide(next(iter(pages._pages.values())), ("accept", "boss|keys"))
        assert text(await call) == "3"
    assert (seen[-1].answered, seen[-1].answered_by) == (True, ("boss|keys",))


@ERAS
@pytest.mark.parametrize("by", ["page", "client"])
async def test_a_declined_call_is_not_sent(
    world: Any, asker: Any, plugins: Any, person: Person, era: str, by: str
) -> None:
    plugins(Approval(Ask("May it?", name="approval", on_page=True), about=frozenset({"greet"})))
    person.answer, person.action = "decline", "accept" if by == "page" else "decline"
    async with world(asker("http", "legacy")) as w:
        client = await w.client(era, "ann", elicitation_callback=person)
        with pytest.raises(MCPError, match="the user said decline"):
            await client.call_tool("greet", {"who": f"declined {era} {by}"})
        assert len(w.gateway.input_required.pages) == 0
        assert f"declined {era} {by}" not in (await w.journal())["begun"]


@ERAS
async def test_the_consent_of_a_client_is_no_answer(
    world: Any, asker: Any, plugins: Any, person: Person, era: str
) -> None:
    plugins(Approval(Ask("May it?", name="approval", on_page=True, lifetime=1.5), about=frozenset({"greet"})))
    person.answer = None
    async with world(asker("http", "legacy")) as w:
        client = await w.client(era, "ann", elicitation_callback=person)
        with pytest.raises(MCPError, match=r"there was no answer within|requestState is not valid"):
            await client.call_tool("greet", {"who": f"consent {era}"})
        assert len(w.gateway.input_required.pages) == 0
        assert f"consent {era}" not in (await w.journal())["begun"]


async def test_a_modern_agent_is_asked_again_with_the_same_page_until_it_is_answered(
    world: Any, asker: Any, plugins: Any, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_questions, "PATIENCE", 0.2)
    counter = Counter()
    plugins(counter, Approval(ON_PAGE))
    person.answer = None
    async with world(asker("http", "modern")) as w:
        client = await w.client("modern", "ann", elicitation_callback=person)
        call = asyncio.create_task(client.call_tool("add", SUM))
        await w.until(lambda: len(person.opened) >= 3)
        person.answer = "approve"
        await person.click(person.opened[0].url, 0)
        assert text(await call) == "3"
    assert len({asked.url for asked in person.opened}) == 1
    assert counter.first == 1


async def test_an_approval_on_a_page_counts_once_for_its_call(
    world: Any, asker: Any, plugins: Any, person: Person, http: aiohttp.ClientSession
) -> None:
    plugins(Approval(ON_PAGE))
    async with world(asker("http", "modern")) as w:
        agent = UrlAgent(w, http)
        state, url = await agent.opened("add", SUM)
        await person.click(url, 0)
        for arguments in ({"a": 1, "b": 3}, {}):
            again = agent.call("add", arguments, requestState=state, inputResponses=agent.accepted())
            assert refusal(await again) == REFUSED
        assert refusal(await UrlAgent(w, http, "eve").call("add", SUM, requestState=state)) == REFUSED
        assert said(await agent.call("add", SUM, requestState=state, inputResponses=agent.accepted())) == "3"
        again = agent.call("add", SUM, requestState=state, inputResponses=agent.accepted())
        assert refusal(await again) == REFUSED


async def test_later_rounds_of_an_upstream_do_not_ask_again(
    world: Any, asker: Any, plugins: Any, person: Person
) -> None:
    plugins(Approval(ON_PAGE, about=frozenset({"greet"})))
    async with world(asker("http", "modern")) as w:

        async def answer(context: Any, params: Any) -> types.ElicitResult:
            if params.mode == "url":
                return await person(context, params)
            return types.ElicitResult(action="accept", content={"name": "Ada"})

        client = await w.client("modern", "ann", elicitation_callback=answer)
        assert "Ada" in text(await client.call_tool("greet", {"who": "bob", "rounds": 2}))
    assert len(person.opened) == 1


async def test_a_client_that_shows_no_forms_gets_a_page(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession, person: Person
) -> None:
    plugins(Approval(Ask("May it?", name="approval")))
    async with world(asker("http", "modern")) as w:
        agent = UrlAgent(w, http)
        state, url = await agent.opened("add", SUM)
        await person.click(url, 0)
        assert said(await agent.call("add", SUM, requestState=state, inputResponses=agent.accepted())) == "3"


async def test_a_form_is_never_on_a_page(world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession) -> None:
    plugins(Approval(Ask("Why?", schema=FORM, name="approval")))
    async with world(asker("http", "modern")) as w:
        answer = await UrlAgent(w, http).call("add", SUM)
        assert answer["error"]["data"]["requiredCapabilities"] == {"elicitation": {"form": {}}}


async def test_an_agent_that_opens_no_addresses_is_refused(
    world: Any, asker: Any, plugins: Any, http: aiohttp.ClientSession
) -> None:
    plugins(Approval(ON_PAGE))
    async with world(asker("http", "modern")) as w:
        answer = await Agent(w, http).call("add", SUM)
        assert answer["error"]["data"]["requiredCapabilities"] == {"elicitation": {"url": {}}}
        assert len(w.gateway.input_required.pages) == 0


async def test_a_call_that_is_cancelled_takes_its_page_along(
    world: Any, asker: Any, plugins: Any, person: Person, http: aiohttp.ClientSession
) -> None:
    plugins(Approval(ON_PAGE))
    async with world(asker("http", "modern")) as w:
        agent = UrlAgent(w, http)
        state, url = await agent.opened("add", SUM)
        call = asyncio.create_task(agent.call("add", SUM, requestState=state, inputResponses=agent.accepted()))
        await w.until(lambda: w.gateway.pipeline.in_flight == 1)
        call.cancel()
        await w.until(lambda: len(w.gateway.input_required.pages) == 0)
        await person.click(url, 0)
        assert person.ends[0][0] == 404
        assert "The call is over" in person.ends[0][1]


async def test_a_parked_call_that_an_operator_cancels_takes_its_page_along(
    world: Any, asker: Any, plugins: Any, person: Person, http: aiohttp.ClientSession
) -> None:
    plugins(Approval(ON_PAGE))
    async with world(asker("http", "modern")) as w:
        agent = UrlAgent(w, http)
        _, url = await agent.opened("add", SUM)
        ((parked, _),) = w.gateway.input_required.parking.waiting()
        assert w.gateway.live.cancel(parked.exchange)
        async with http.get(url) as shown:
            assert shown.status == 404
            assert "The call is over" in await shown.text()
        await person.click(url, 0)
        assert person.ends[0][0] == 404
        assert "The call is over" in person.ends[0][1]
        assert len(w.gateway.input_required.pages) == 0


async def test_a_legacy_call_that_an_operator_cancels_takes_its_page_along(
    world: Any, asker: Any, plugins: Any, person: Person
) -> None:
    plugins(Approval(ON_PAGE))
    person.answer = None
    async with world(asker("http", "modern")) as w:
        client = await w.client("legacy", "ann", elicitation_callback=person)
        calling = asyncio.create_task(client.call_tool("add", SUM))
        await w.until(lambda: person.opened)
        (call,) = w.gateway.live.listing()
        assert w.gateway.live.cancel(call["id"])
        with pytest.raises(MCPError, match="an operator cancelled the call"):
            await calling
        person.answer = "approve"
        await person.click(person.opened[0].url, 0)
        assert person.ends[0][0] == 404
        assert "The call is over" in person.ends[0][1]


class UrlAgent(Agent):
    """A modern agent that opens addresses and shows no forms."""

    capabilities = {"elicitation": {"url": {}}}  # noqa: RUF012 - a constant here

    async def opened(self, tool: str, arguments: dict[str, Any]) -> tuple[str, str]:
        """The state to bring back, and the address of the page."""
        result = (await self.call(tool, arguments))["result"]
        assert result["resultType"] == "input_required", result
        ((self.key, request),) = result["inputRequests"].items()
        return result["requestState"], request["params"]["url"]

    def accepted(self) -> dict[str, Any]:
        return {self.key: {"action": "accept"}}


def question(**settings: Any) -> Question:
    stage: Any = None
    return Question("approval", Ask("May it?", on_page=True, **settings), stage, 0)


def call(principal: Principal) -> Call:
    return Call("tools/call", "add", principal, "modern", "x")


ANN = Principal.proven("ann", issuer="keys", groups=["dev"])
BOB = Principal.proven("bob", issuer="keys", groups=["approvers"])
CLAIMED = Principal("ann@10.0.0.1", groups=frozenset({"approvers"}))


def pages(*, is_local: bool = False, limit: int = 10) -> QuestionPages:
    found = QuestionPages(limit)
    found.serve_at(lambda: "https://gw.example", lambda: is_local)
    return found


async def test_who_may_answer() -> None:
    made, local = pages(), pages(is_local=True)
    own = made.open(question(), call(ANN), 60, bytes)
    assert [made.may_answer(own, who) for who in (ANN, BOB, CLAIMED, None)] == [True, False, False, False]
    groups = made.open(question(approvers=["approvers"]), call(ANN), 60, bytes)
    assert [made.may_answer(groups, who) for who in (ANN, BOB, CLAIMED, None)] == [False, True, False, False]
    claimed = local.open(question(), call(CLAIMED), 60, bytes)
    assert [local.may_answer(claimed, who) for who in (None, ANN)] == [True, False]


async def test_a_page_for_other_people_does_not_answer_the_question() -> None:
    made = pages()
    alice = call(Principal.proven("alice", issuer="i"))
    page = made.open(question(approvers=["dev"]), alice, 60, lambda data: data)
    assert made.about(page.token, question(approvers=("dev",)), alice) is page
    assert made.about(page.token, question(approvers=["admins"]), alice) is None
    assert made.about(page.token, question(), alice) is None


async def test_there_is_no_page_where_nothing_proves_who_opens_it() -> None:
    with pytest.raises(RpcError, match="nothing proves who opens the page") as refused:
        pages().open(question(), call(CLAIMED), 60, bytes)
    assert refused.value.code == REJECTED
    pages().open(question(approvers=["approvers"]), call(CLAIMED), 60, bytes)
    with pytest.raises(RpcError, match="has no pages"):
        QuestionPages(10).open(question(), call(ANN), 60, bytes)


async def test_pages_are_bounded_lapse_and_have_different_addresses() -> None:
    some = pages(limit=3)
    made = [some.open(question(), call(ANN), seconds, bytes) for seconds in (0.05, 60, 60)]
    assert len({some.url(page) for page in made}) == 3
    assert all(len(page.token) == 43 for page in made)
    with pytest.raises(RpcError, match="too many questions"):
        some.open(question(), call(ANN), 60, bytes)
    async with asyncio.timeout(20):
        while len(some) == 3:
            await asyncio.sleep(0.01)
    assert some.at(made[0].token) is None
    assert not some.decide(made[0], ("accept", ""))
    assert some.decide(made[1], ("decline", ""))
    assert not some.decide(made[1], ("accept", "")), "the first answer counts"
    for page in made:
        some.close(page)
    assert len(some) == 0


async def test_a_legacy_client_is_told_that_its_user_has_answered() -> None:
    told: list[tuple[str, bytes]] = []

    class Back:
        def notify(self, method: str, params: bytes) -> None:
            told.append((method, params))

        async def ask(self, method: str, params: bytes) -> bytes:
            return b'{"action":"accept"}'

    some, back = pages(), Back()
    page = some.open(question(), call(ANN), 60, bytes)
    waiting = asyncio.create_task(opened(back, back.ask("elicitation/create", b"{}"), page))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    some.decide(page, ("decline", "ann|keys"))
    assert await waiting == b'{"action":"decline"}'
    assert told == [("notifications/elicitation/complete", b'{"elicitationId":"%b"}' % page.id.encode())]


async def test_an_answer_on_the_page_counts_before_the_client_says_anything() -> None:
    class Silent:
        def notify(self, method: str, params: bytes) -> None: ...

        async def ask(self, method: str, params: bytes) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

    some, back = pages(), Silent()
    page = some.open(question(), call(ANN), 60, bytes)
    waiting = asyncio.create_task(opened(back, back.ask("elicitation/create", b"{}"), page))
    await asyncio.sleep(0.01)
    some.decide(page, ("accept", ""))
    assert await waiting == b'{"action":"accept"}'


async def test_the_ends_of_calls_that_are_remembered_are_bounded() -> None:
    made = pages(limit=2)
    opened_pages = []
    for _ in range(3):
        opened_pages.append(made.open(question(), call(Principal.proven("ada", issuer="keys")), 60, bytes))
        made.abandon(opened_pages[-1])
    assert [made.is_over(page.token) for page in opened_pages] == [False, True, True]
    answered = made.open(question(), call(Principal.proven("ada", issuer="keys")), 60, bytes)
    made.close(answered)
    made.abandon(answered)
    assert not made.is_over(answered.token)
