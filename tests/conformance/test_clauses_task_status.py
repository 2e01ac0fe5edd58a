"""Clause 57: an agent is told the status of its own tasks alone (SEP-2663, Task Status Notifications)."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway_core import Call, CallResult, Reject, hookimpl
from gateway_core.downstream.subscriptions import subscription as subscriptions
from gateway_core.upstream.notifications import follows, pauses

from .tasks_kit import SUBSCRIPTION, TASKS, Agent, Lab, Listener, Start, starting

LISTEN = "subscriptions/listen"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_DELAY", 0.02)


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    async with starting(tmp_path, monkeypatch) as begin:
        yield begin


def asked(lab: Lab) -> list[list[str]]:
    """The ids of the subscriptions that reached a lab."""
    filters = [body["params"]["notifications"] for _, body in lab.of(LISTEN)]
    return [wanted["taskIds"] for wanted in filters if "taskIds" in wanted]


async def another(lab: Lab, number: int) -> Listener:
    """Subscription number `number` of a lab, as soon as it is there."""
    async with asyncio.timeout(10):
        while len(lab.extension.listeners) <= number:
            await asyncio.sleep(0.01)
    return lab.extension.listeners[number]


async def test_clause_57_the_status_of_a_task_is_told_as_it_changes(start: Start) -> None:
    stand = await start(Lab("lab"))
    [lab] = stand.labs
    task_id = await stand.agent.begin()
    async with stand.agent.listen(task_id) as events:
        assert await events.accepted() == [task_id]
        lab.extension.ask("t1")
        asking = await events.status()
        lab.extension.change("t1", status="completed", result={"content": [], "isError": False})
        done = await events.status()
    assert asking["inputRequests"]["name"]["method"] == "elicitation/create"
    assert (done["status"], done["result"]) == ("completed", {"content": [], "isError": False})
    for told in (asking, done):
        assert told["taskId"] == task_id
        assert told["_meta"] == {SUBSCRIPTION: 1, "com.example/kept": 1, **server_info(told)}
        assert "resultType" not in told
    assert lab.of("tasks/get") == []


def server_info(told: dict[str, Any]) -> dict[str, Any]:
    key = "io.modelcontextprotocol/serverInfo"
    assert told["_meta"][key]["name"] == "radium-mcp-gateway"
    return {key: told["_meta"][key]}


async def test_clause_57_the_upstream_is_asked_in_its_own_ids_and_told_what_the_agent_declares(start: Start) -> None:
    stand = await start(Lab("lab"))
    [lab] = stand.labs
    ids = [await stand.agent.begin(), await stand.agent.begin()]
    async with stand.agent.listen(*ids) as events:
        assert await events.accepted() == ids
    assert asked(lab) == [["t1", "t2"]]
    meta = lab.of(LISTEN)[-1][1]["params"]["_meta"]
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {"extensions": {TASKS: {}}}


async def test_clause_57_two_upstreams_tell_of_tasks_with_one_id(start: Start) -> None:
    stand = await start(Lab("first"), Lab("second"))
    ids = [await stand.agent.begin("first:work"), await stand.agent.begin("second:work")]
    async with stand.agent.listen(*ids) as events:
        assert await events.accepted() == ids
        for lab, task_id in zip(stand.labs, ids, strict=True):
            lab.extension.ask("t1")
            assert (await events.status())["taskId"] == task_id


async def test_clause_57_the_acknowledgement_names_what_will_be_told_of(start: Start) -> None:
    stand = await start(Lab("lab"))
    [lab] = stand.labs
    lab.extension.unheard.add("t2")
    ids = [await stand.agent.begin() for _ in range(3)]
    foreign = await Agent(stand, "stranger").begin()
    async with stand.agent.listen(ids[0], "t1", foreign, *ids[1:], toolsListChanged=True) as events:
        message = await events.next()
    assert message["params"]["notifications"] == {"toolsListChanged": True, "taskIds": [ids[0], ids[2]]}
    assert asked(lab) == [["t1", "t2", "t3"]]


async def test_clause_57_an_upstream_that_tells_of_another_agents_task_is_not_believed(start: Start) -> None:
    stand = await start(Lab("lab"))
    [lab] = stand.labs
    mine, theirs = await stand.agent.begin(), await Agent(stand, "stranger").begin()
    async with stand.agent.listen(mine) as events, Agent(stand, "stranger").listen(theirs) as others:
        assert (await events.accepted(), await others.accepted()) == ([mine], [theirs])
        [of_me] = [each for each in lab.extension.listeners if each.accepted == ["t1"]]
        of_me.say(lab.tasks["t2"] | {"status": "cancelled"})
        of_me.say(lab.tasks["t1"] | {"taskId": 5})
        lab.extension.change("t1", status="completed", result={})
        lab.extension.change("t2", status="failed", error={"code": -32603, "message": "no"})
        assert [(await each.status())["status"] for each in (events, others)] == ["completed", "failed"]


async def test_clause_57_the_upstream_learns_that_the_agent_has_gone(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    async with stand.agent.listen(task_id) as events:
        await events.accepted()
        listener = await another(stand.labs[0], 0)
        assert not listener.ended.is_set()
    async with asyncio.timeout(10):
        await listener.ended.wait()


async def test_clause_57_a_subscription_is_opened_again_and_what_was_missed_is_told(start: Start) -> None:
    stand = await start(Lab("lab"))
    [lab] = stand.labs
    lab.extension.unheard.add("t2")
    ids = [await stand.agent.begin(), await stand.agent.begin()]
    async with stand.agent.listen(*ids) as events:
        assert await events.accepted() == ids[:1]
        (await another(lab, 0)).end()
        lab.tasks["t1"]["status"] = "cancelled"
        told = await events.status()
        assert (told["taskId"], told["status"], "resultType" in told) == (ids[0], "cancelled", False)
        await another(lab, 1)
        lab.extension.change("t1", statusMessage="at last")
        assert (await events.status())["statusMessage"] == "at last"
    assert asked(lab) == [["t1", "t2"], ["t1"]]


@pytest.mark.parametrize("wanted", ["t1", [5], {"t1": True}])
async def test_clause_57_ids_have_to_be_texts_in_an_array(start: Start, wanted: Any) -> None:
    stand = await start(Lab("lab"))
    refused = await stand.agent.ask(LISTEN, {"notifications": {"taskIds": wanted}})
    assert refused["error"]["code"] == -32602


async def test_clause_57_what_is_followed_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = await start(Lab("lab"))
    ids = [await stand.agent.begin() for _ in range(3)]
    monkeypatch.setattr(subscriptions, "MAX_FOLLOWED", 2)
    refused = await stand.agent.ask(LISTEN, {"notifications": {"taskIds": ids}})
    assert refused["error"]["code"] == -32602
    monkeypatch.setattr(follows, "MAX_FOLLOWED", 3)
    async with stand.agent.listen(*ids[:2]) as first:
        assert await first.accepted() == ids[:2]
        async with stand.agent.listen(*ids[1:]) as second, stand.agent.listen(ids[2]) as third:
            assert (await second.accepted(), await third.accepted()) == ([], ids[2:])
        monkeypatch.setattr(follows, "MAX_FOLLOWERS", 1)
        async with stand.agent.listen(ids[2]) as fourth:
            assert await fourth.accepted() == []


async def test_clause_57_an_upstream_that_refuses_to_tell_leaves_the_rest_of_the_subscription(start: Start) -> None:
    stand = await start(Lab("deaf"), Lab("lab"))
    ids = [await stand.agent.begin("deaf:work"), await stand.agent.begin("lab:work")]
    stand.labs[0].wire[LISTEN] = {}
    async with stand.agent.listen(*ids) as events:
        assert await events.accepted() == ids[1:]
        stand.labs[1].extension.ask("t1")
        assert (await events.status())["taskId"] == ids[1]


async def test_clause_57_a_child_process_tells_on_its_one_channel(start: Start) -> None:
    server = Path(__file__).parent / "servers" / "dual.py"
    child = {"name": "child", "transport": "stdio", "command": sys.executable, "args": [str(server)]}
    stand = await start(more=tomli_w.dumps({"mcp": {"proxy": {"upstreams": [child]}}}))
    created = [await stand.agent.call("slow_compute", arguments={"seconds": seconds}) for seconds in (60, 0.5)]
    long, short = [str(each["result"]["taskId"]) for each in created]
    async with stand.agent.listen(long) as events, stand.agent.listen(short) as others:
        assert (await events.accepted(), await others.accepted()) == ([long], [short])
        assert (await others.status())["result"]["content"][0]["text"] == "computed "
        await stand.agent.ask("tasks/cancel", {"taskId": long})
        told = await events.status()
        assert (told["taskId"], told["status"]) == (long, "cancelled")


class Watch:
    """Sees what is told as answers to `tasks/get`, and withholds every second one."""

    methods = frozenset({"tasks/get"})

    def __init__(self) -> None:
        self.calls = itertools.count()
        self.seen: list[Any] = []

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        return Reject("not now") if next(self.calls) % 2 else None

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> CallResult | None:
        self.seen.append((call.name, result.upstream, result.content.get("status")))
        return None if result.is_error else result.replace({**result.content, "statusMessage": "seen"})


async def test_clause_57_plugins_see_what_is_told_as_an_answer(start: Start) -> None:
    watch = Watch()
    stand = await start(Lab("lab"), plugin=watch)
    task_id = await stand.agent.begin()
    async with stand.agent.listen(task_id) as events:
        await events.accepted()
        for status in ("working", "input_required", "cancelled"):
            stand.labs[0].extension.change("t1", status=status)
        told = [await events.status(), await events.status()]
    assert [(task["status"], task["statusMessage"]) for task in told] == [("working", "seen"), ("cancelled", "seen")]
    assert watch.seen[0] == (task_id, "lab", "working")


async def test_clause_57_what_is_hidden_from_results_is_hidden_from_what_is_told(start: Start) -> None:
    redact = "[[mcp.proxy.plugins]]\nname = 'security_redact'\nredact_results = true"
    stand = await start(Lab("lab"), proxy=redact)
    task_id = await stand.agent.begin()
    async with stand.agent.listen(task_id) as events:
        await events.accepted()
        stand.labs[0].extension.change("t1", status="completed", result={"content": [], "password": "swordfish"})
        assert (await events.status())["result"] == {"content": [], "password": "[REDACTED]"}
