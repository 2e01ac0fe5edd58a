"""Clauses 26 and 57: tasks of several upstreams, each agent's own, under ids that keep their meaning (SEP-2663)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway_core import Call, CallResult, Reject, hookimpl

from .asgi import answer, body_of, replayed
from .tasks_kit import METHODS, QUESTION, TASKS, Agent, Apps, Lab, Start, about, starting

UI = "io.modelcontextprotocol/ui"
STATES = "state_keys = ['a secret that both processes share']"


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    async with starting(tmp_path, monkeypatch) as begin:
        yield begin


# -- ids ----------------------------------------------------------------------------------------------------------


async def test_clause_57_two_upstreams_that_mint_one_id_keep_their_tasks_apart(start: Start) -> None:
    stand = await start(Lab("first"), Lab("second"))
    ids = [await stand.agent.begin("first:work"), await stand.agent.begin("second:work")]
    assert [list(lab.tasks) for lab in stand.labs] == [["t1"], ["t1"]]
    assert len({*ids, "t1"}) == 3
    assert (await stand.agent.ask("tasks/cancel", about("tasks/cancel", ids[1])))["result"]["resultType"] == "complete"
    assert [(await stand.agent.get(task_id))["status"] for task_id in ids] == ["working", "cancelled"]
    assert [len(lab.of(*METHODS)) for lab in stand.labs] == [1, 2]


async def test_a_server_goes_on_for_its_task(start: Start) -> None:
    stand = await start(Lab("lab"))
    (upstream,) = stand.gateway.pool.upstreams
    assert not upstream.connections.wanted
    await stand.agent.begin()
    assert upstream.connections.wanted


@pytest.mark.parametrize("method", METHODS)
async def test_clause_57_the_upstream_gets_its_own_id_in_body_and_header(start: Start, method: str) -> None:
    stand = await start(Lab("lab"))
    await stand.agent.begin()
    task_id = await stand.agent.begin()
    assert "error" not in await stand.agent.ask(method, about(method, task_id))
    [(headers, body)] = stand.labs[0].of(method)
    assert (headers["mcp-name"], headers["mcp-method"]) == ("t2", method)
    assert {**body["params"], "_meta": None} == {**about(method, "t2"), "_meta": None}
    declared = body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]["extensions"]
    assert declared == {TASKS: {}}


@pytest.mark.parametrize("method", METHODS)
async def test_clause_57_foreign_forged_and_bare_ids_get_one_answer_and_reach_no_server(
    start: Start, method: str
) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    other = "A" if task_id[-1] != "A" else "B"
    attempts = [
        (Agent(stand, "stranger"), task_id),
        (stand.agent, task_id[:-1] + other),
        (stand.agent, task_id + "="),
        (stand.agent, "t1"),
        (stand.agent, ""),
    ]
    for agent, tried in attempts:
        refused = await agent.ask(method, about(method, tried))
        assert refused["error"] == {
            "code": -32602,
            "message": "Unknown task",
            "data": {"source": "gateway"},
        }
    assert stand.labs[0].of(*METHODS) == []
    assert (await stand.agent.get(task_id))["status"] == "working"


async def test_clause_57_a_task_that_its_upstream_forgot_is_the_same_kind_of_error(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    stand.labs[0].tasks.clear()
    assert (await stand.agent.ask("tasks/get", {"taskId": task_id}))["error"]["code"] == -32602


async def test_clause_57_an_id_survives_a_restart_with_state_keys_and_not_without(start: Start) -> None:
    lab = Lab("lab")
    for proxy, survives in ((STATES, True), ("", False)):
        before = await start(lab, proxy=proxy)
        task_id = await before.agent.begin()
        await before.gateway.stop()
        after = await start(lab, proxy=proxy)
        found = await after.agent.ask("tasks/get", {"taskId": task_id})
        assert ("result" in found, found.get("error", {}).get("code")) == (survives, None if survives else -32602)
        await after.gateway.stop()


async def test_clause_57_an_id_of_before_the_secret_changed_stays_the_id(start: Start) -> None:
    lab = Lab("lab")
    before = await start(lab, proxy=STATES)
    task_id = await before.agent.begin()
    await before.gateway.stop()
    after = await start(lab, proxy=STATES.replace("[", "['a secret that is newer than that', "))
    assert (await after.agent.get(task_id))["status"] == "working"


async def test_clause_57_an_id_of_an_upstream_that_is_gone_is_unknown(start: Start) -> None:
    gone, left = Lab("gone"), Lab("left")
    before = await start(gone, left, proxy=STATES)
    task_id = await before.agent.begin("gone:work")
    await before.gateway.stop()
    after = await start(left, proxy=STATES)
    assert (await after.agent.ask("tasks/get", {"taskId": task_id}))["error"]["code"] == -32602


@pytest.mark.parametrize("method", METHODS)
async def test_clause_57_the_header_has_to_repeat_the_id(start: Start, method: str) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    for header in (None, "t1", task_id + "="):
        refused = await stand.agent.ask(method, about(method, task_id), Mcp_Name=header)
        assert (refused["status"], refused["error"]["code"]) == (400, -32020)
    assert stand.labs[0].of(*METHODS) == []


@pytest.mark.parametrize("made", [{}, {"taskId": 5}, {"taskId": ""}, {"taskId": "x" * 3000}])
async def test_clause_57_a_task_that_cannot_be_asked_about_is_an_error_of_its_upstream(
    start: Start, made: dict[str, Any]
) -> None:
    stand = await start(Lab("lab"))
    stand.labs[0].wire["tools/call"] = {"resultType": "task", "status": "working", **made}
    assert (await stand.agent.call("work"))["error"]["code"] == -31002


async def test_clause_57_an_upstream_that_tells_of_another_task_is_not_believed(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    stand.labs[0].wire["tasks/get"] = {"resultType": "complete", "taskId": "t9", "status": "working"}
    assert (await stand.agent.ask("tasks/get", {"taskId": task_id}))["error"]["code"] == -31002


async def test_clause_57_an_id_is_hidden_however_the_answer_is_spelt(start: Start) -> None:
    """JSON has more than one way to write `task`, and an id that slipped through would be the upstream's own."""
    stand = await start(Lab("lab"))
    stand.labs[0].wire["tools/call"] = rb'{"resultType":"t\u0061sk","task\u0049d":"t1","status":"working"}'
    result = (await stand.agent.call("work"))["result"]
    assert result["resultType"] == "task"
    assert result["taskId"] != "t1"


# -- a task's life ------------------------------------------------------------------------------------------------


async def test_clause_57_a_task_asks_for_input_and_is_completed_by_it(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    stand.labs[0].extension.ask("t1")
    asking = await stand.agent.get(task_id)
    assert (asking["status"], asking["inputRequests"]) == ("input_required", QUESTION)
    done = await stand.agent.ask("tasks/update", about("tasks/update", task_id))
    assert done["result"]["resultType"] == "complete"
    assert (await stand.agent.get(task_id))["result"]["content"][0]["text"] == "Hello, Ada"


async def test_clause_26_a_task_is_cancelled_by_its_owner_alone(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    await Agent(stand, "stranger").ask("tasks/cancel", {"taskId": task_id})
    assert (await stand.agent.get(task_id))["status"] == "working"
    await stand.agent.ask("tasks/cancel", {"taskId": task_id})
    assert (await stand.agent.get(task_id))["status"] == "cancelled"
    assert stand.labs[0].of("notifications/cancelled") == []


# -- negotiation --------------------------------------------------------------------------------------------------


async def test_clause_57_the_extension_is_announced_to_modern_agents_with_what_all_agree_on(start: Start) -> None:
    first = Lab("first", [Apps(UI, mimeTypes=["text/html"], theme="dark"), Apps("com.example/methods")])
    stand = await start(first, Lab("second", [Apps(UI, mimeTypes=["text/html"], theme="light", more=1)]))
    found = (await stand.agent.ask("server/discover"))["result"]["capabilities"]
    assert found["extensions"] == {TASKS: {}, UI: {"mimeTypes": ["text/html"]}}
    assert "tasks" not in found
    _, legacy = await stand.initialize({})
    assert legacy["extensions"] == {UI: {"mimeTypes": ["text/html"]}}


async def test_clause_57_tasks_of_legacy_upstreams_are_not_announced(start: Start) -> None:
    stand = await start(Lab("old", legacy=True))
    assert "extensions" not in (await stand.agent.ask("server/discover"))["result"]["capabilities"]


async def test_clause_57_without_the_extension_there_are_no_tasks(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    plain = Agent(stand, extensions=())
    assert (await plain.call("work"))["result"]["content"][0]["text"] == "lab did it at once"
    needed = {"extensions": {TASKS: {}}}
    for method in METHODS:
        refused = await plain.ask(method, about(method, task_id))
        assert (refused["status"], refused["error"]["code"]) == (400, -32021)
        assert refused["error"]["data"]["requiredCapabilities"] == needed
    refused = await plain.call("must_be_a_task")
    assert (refused["error"]["code"], refused["error"]["data"]["requiredCapabilities"]) == (-32021, needed)
    assert (await plain.call("rogue"))["error"]["code"] == -31002


async def test_clause_57_legacy_agents_have_no_tasks_whatever_they_declare(start: Start) -> None:
    stand = await start(Lab("lab"))
    session, _ = await stand.initialize({"extensions": {TASKS: {}, UI: {}}, "tasks": {"list": {}, "cancel": {}}})
    for method in [*METHODS, "tasks/list", "tasks/result"]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": about(method, "t1")}
        assert (await stand.post(body, session))["error"]["code"] == -32601
    params = {"name": "work", "arguments": {}, "task": {"ttl": 60000}}
    done = await stand.post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, session)
    assert done["result"]["content"][0]["text"] == "lab did it at once"
    [(_, body)] = stand.labs[0].of("tools/call")
    assert body["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {"extensions": {UI: {}}}


async def test_clause_57_who_declares_no_tasks_cannot_listen_to_them(start: Start) -> None:
    stand = await start(Lab("lab"))
    task_id = await stand.agent.begin()
    refused = await Agent(stand, extensions=()).ask("subscriptions/listen", {"notifications": {"taskIds": [task_id]}})
    assert (refused["status"], refused["error"]["code"]) == (400, -32021)
    assert refused["error"]["data"]["requiredCapabilities"] == {"extensions": {TASKS: {}}}


@pytest.mark.parametrize("method", ["tasks/list", "tasks/result"])
async def test_clause_57_methods_that_the_extension_removed_are_unknown(start: Start, method: str) -> None:
    stand = await start(Lab("lab"))
    refused = await stand.agent.ask(method, {"taskId": await stand.agent.begin()})
    assert (refused["status"], refused["error"]["code"]) == (404, -32601)


@pytest.mark.parametrize("legacy", [False, True])
async def test_clause_57_the_task_member_of_the_older_protocol_is_ignored(start: Start, legacy: bool) -> None:
    stand = await start(Lab("lab", legacy=legacy))
    result = (await stand.agent.call("only_lab", task={"ttl": 60000}))["result"]
    assert (result["resultType"], result["content"][0]["text"]) == ("complete", "lab")
    [(_, body)] = stand.labs[0].of("tools/call")
    assert "task" not in body["params"]


# -- plugins ------------------------------------------------------------------------------------------------------


class Watch:
    """Names the methods of tasks, sees agents' ids only, and lets nobody cancel."""

    methods = frozenset({"tools/call", *METHODS})

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, Any]] = []
        self.tools: list[tuple[str, str | None, tuple[str, ...]]] = []

    @hookimpl
    def before_call(self, call: Call) -> Reject | None:
        self.tools.append((call.method, call.tool and call.tool.name, call.upstreams))
        return Reject("no cancelling here") if call.method == "tasks/cancel" else None

    @hookimpl
    def after_call(self, call: Call, result: CallResult) -> None:
        self.seen.append((call.method, call.arguments if call.method == "tasks/update" else call.name, result.content))


async def test_clause_57_plugins_that_name_the_methods_see_what_the_agent_sees(start: Start) -> None:
    watch = Watch()
    stand = await start(Lab("lab"), plugin=watch)
    task_id = await stand.agent.begin()
    await stand.agent.get(task_id)
    update = about("tasks/update", task_id)
    await stand.agent.ask("tasks/update", update)
    assert (await stand.agent.ask("tasks/cancel", {"taskId": task_id}))["error"]["message"] == "no cancelling here"
    assert stand.labs[0].of("tasks/cancel") == []
    assert [tool for _, tool, _ in watch.tools] == ["work"] * 4, "a task belongs to the tool that created it"
    assert {upstreams for _, _, upstreams in watch.tools} == {("lab",)}
    created, got, updated = watch.seen[:3]
    assert created[2]["taskId"] == got[1] == got[2]["taskId"] == task_id
    assert updated[1] == update["inputResponses"]


class ListsForKeys(Lab):
    """Lists its tools for requests with a key alone."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            body = await body_of(receive)
            message = json.loads(body) if body else {}
            if message.get("method") == "tools/list":
                has_key = any(name == b"x-api-key" for name, _ in scope["headers"])
                tools = [{"name": "work", "inputSchema": {"type": "object"}}] if has_key else []
                result = {"resultType": "complete", "tools": tools, "ttlMs": 60_000, "cacheScope": "private"}
                reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
                await answer(send, 200, json.dumps(reply).encode())
                return
            receive = replayed(body, receive)
        await super().__call__(scope, receive, send)


async def test_clause_57_plugins_see_the_tool_of_a_task_that_only_some_agents_see(start: Start) -> None:
    """What an agent presents for the upstream decides which tools those are, as its principal does."""
    watch = Watch()
    stand = await start(ListsForKeys("lab"), plugin=watch, more='forward = { "X-Api-Key" = "header:X-Lab-Key?" }\n')
    begun = await stand.agent.ask("tools/call", {"name": "work", "arguments": {}}, X_Lab_Key="mine")
    found = await stand.agent.ask("tasks/get", {"taskId": begun["result"]["taskId"]}, X_Lab_Key="mine")
    assert found["result"]["status"] == "working"
    assert [tool for _, tool, _ in watch.tools] == ["work", "work"]


async def test_clause_57_what_is_hidden_from_results_is_hidden_from_those_of_tasks(start: Start) -> None:
    redact = "[[mcp.proxy.plugins]]\nname = 'security_redact'\nredact_results = true"
    stand = await start(Lab("lab"), proxy=redact)
    task_id = await stand.agent.begin()
    stand.labs[0].tasks["t1"] |= {"status": "completed", "result": {"content": [], "password": "swordfish"}}
    assert (await stand.agent.get(task_id))["result"] == {"content": [], "password": "[REDACTED]"}
