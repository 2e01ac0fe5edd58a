"""What belongs to one verified principal is out of reach of another with valid credentials of its own.

Both call from the same address with the same program, so that nothing but the credentials tells them apart. Each test
takes one handle (a session, an event, a request, a question, an approval, a state, a cursor, a subscription, a task)
and uses it as the other principal in every way that exists. The other gets what a made-up handle gets, and the owner is
undisturbed.
"""

import asyncio
import json
from typing import Any

import pytest

from gateway_core import Ask, hookimpl
from tests.downstream.auth.keys import Keys, bearer

CLIENT_INFO, CAPABILITIES = "io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/clientCapabilities"
ELICITATION: Any = {"elicitation": {"form": {}}}
MADE_UP = "made-up"
REQUESTS: list[tuple[str, Any]] = [
    ("ping", None),
    ("tools/list", None),
    ("tools/call", {"name": "echo", "arguments": {}}),
    ("prompts/list", None),
    ("prompts/get", {"name": "brief", "arguments": {"topic": "x"}}),
    ("resources/list", None),
    ("resources/templates/list", None),
    ("resources/read", {"uri": "memo://lab0/today"}),
    ("resources/subscribe", {"uri": "memo://lab0/today"}),
    ("resources/unsubscribe", {"uri": "memo://lab0/today"}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "brief"}, "argument": {"name": "topic", "value": ""}},
    ),
    ("logging/setLevel", {"level": "debug"}),
    ("initialize", None),
]


@pytest.fixture
async def guarded(start: Any) -> Any:
    """A gateway that knows keys, over a server of each era."""
    return await start("legacy", "modern", plugins=[Keys()], proxy="[mcp.proxy.limits]\npage_size = 2")


async def session_of(stand: Any, name: str, **capabilities: Any) -> dict[str, str]:
    """Open a legacy session of a principal; returns the headers of its requests."""
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities,
        "clientInfo": {"name": "a", "version": "1"},
    }
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    opened = await stand.send("POST", bearer(name), body)
    headers = {"Mcp-Session-Id": opened.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"} | bearer(name)
    await stand.send("POST", headers, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    return headers


async def modern(stand: Any, name: str, method: str, params: Any = None) -> Any:
    meta = {CLIENT_INFO: {"name": "a", "version": "1"}, CAPABILITIES: ELICITATION}
    return await stand.modern(method, {**(params or {}), "_meta": meta}, **bearer(name))


def same(*answers: Any) -> None:
    """All are refused, alike."""
    assert len({(answer.status, answer.body) for answer in answers}) == 1, answers
    assert answers[0].status >= 400 or "error" in answers[0].json


async def test_a_session(guarded: Any, msg: Any) -> None:
    alice = await session_of(guarded, "alice")
    before = len(guarded.labs["lab0"].seen), len(guarded.labs["lab1"].seen)
    mine, unknown = ({**alice, **bearer("bob"), "Mcp-Session-Id": it} for it in (alice["Mcp-Session-Id"], MADE_UP))
    for method, params in REQUESTS:
        if method != "initialize":
            body = msg.legacy(method, params, 5)
            same(await guarded.send("POST", mine, body), await guarded.send("POST", unknown, body))
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
    ):
        same(await guarded.send("POST", mine, body), await guarded.send("POST", unknown, body))
    for verb in ("GET", "DELETE"):
        accepting = {"Accept": "text/event-stream"}
        same(await guarded.send(verb, mine | accepting), await guarded.send(verb, unknown | accepting))
    assert (len(guarded.labs["lab0"].seen), len(guarded.labs["lab1"].seen)) == before
    assert (await guarded.send("POST", alice, msg.legacy("ping"))).status == 200


async def test_an_event(guarded: Any, msg: Any) -> None:
    alice, bob = await session_of(guarded, "alice"), await session_of(guarded, "bob")
    call = msg.legacy("tools/call", msg.calling("lab0:steps", "t"), 7)
    async with guarded.stream("POST", alice, call) as events:
        priming = await events.next()
        resumed = [
            await guarded.send("GET", {**bob, "Accept": "text/event-stream", "Last-Event-ID": it})
            for it in (priming["id"], MADE_UP)
        ]
        same(*resumed)
        guarded.labs["lab0"].released.set()
        assert (await events.rest())[-1]["result"]["content"][0]["text"] == "done"


async def test_a_request(guarded: Any, msg: Any) -> None:
    alice, bob = await session_of(guarded, "alice"), await session_of(guarded, "bob")
    lab = guarded.labs["lab0"]
    async with guarded.stream("POST", alice, msg.legacy("tools/call", msg.calling("lab0:steps", "t"), 7)) as events:
        await lab.started.wait()
        cancelling = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert (await guarded.send("POST", bob, cancelling)).status == 202
        again = asyncio.create_task(guarded.send("POST", bob, msg.legacy("tools/call", msg.calling("lab0:echo"), 7)))
        assert (await again).json["id"] == 7, "the ids of requests are of one session"
        lab.released.set()
        assert (await events.rest())[-1]["result"]["content"][0]["text"] == "done"
    assert not lab.cancelled.is_set()


async def test_a_question(guarded: Any, msg: Any) -> None:
    """Legacy: the id of a question that is open; modern: the state that a retry brings back."""
    alice, bob = await session_of(guarded, "alice", **ELICITATION), await session_of(guarded, "bob", **ELICITATION)
    async with guarded.stream("POST", alice, msg.legacy("tools/call", msg.calling("lab0:greet"), 7)) as events:
        question = await events.message()
        for name in ("eve", "ann"):
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": name}}}
            sent = await guarded.send("POST", alice if name == "ann" else bob, answer)
            assert sent.status == 202
        assert (await events.rest())[-1]["result"]["content"][0]["text"] == "Hello, ann"


@pytest.mark.parametrize("server", ["lab0", "lab1"])
async def test_a_state(guarded: Any, server: str) -> None:
    call: Any = {"name": f"{server}:greet", "arguments": {}}
    asks = (await modern(guarded, "alice", "tools/call", call)).json["result"]
    (key,) = asks["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "x"}}}
    back = {**call, "inputResponses": answers, "requestState": asks["requestState"]}
    calls = len(guarded.labs[server].of("tools/call"))
    same(
        await modern(guarded, "bob", "tools/call", back),
        await modern(guarded, "bob", "tools/call", {**back, "requestState": MADE_UP}),
    )
    assert len(guarded.labs[server].of("tools/call")) == calls
    assert (await modern(guarded, "alice", "tools/call", back)).text == "Hello, x"
    same(await modern(guarded, "bob", "tools/call", back), await modern(guarded, "alice", "tools/call", back))


class Careful:
    """Asks about every call, and remembers which principals were approved."""

    def __init__(self) -> None:
        self.approved: list[str] = []

    @hookimpl
    def before_call(self, call: Any) -> Ask | None:
        if "approval" not in call.answers:
            return Ask("may it?", name="approval")
        self.approved.append(call.principal.subject)
        return None


ACCEPTED: Any = {"action": "accept", "content": {}}


async def test_an_approval_in_a_session(start: Any, msg: Any) -> None:
    careful = Careful()
    stand = await start("modern", plugins=[Keys(), careful])
    alice, bob = await session_of(stand, "alice", **ELICITATION), await session_of(stand, "bob", **ELICITATION)
    async with stand.stream("POST", alice, msg.legacy("tools/call", msg.calling("echo"), 7)) as events:
        question = await events.message()
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": ACCEPTED}
        assert (await stand.send("POST", bob, answer)).status == 202
        assert careful.approved == []
        for _ in range(2):
            assert (await stand.send("POST", alice, answer)).status == 202
        assert "result" in (await events.rest())[-1]
    assert careful.approved == ["alice"]
    assert len(stand.lab.of("tools/call")) == 1


async def test_an_approval_in_a_state(start: Any) -> None:
    careful = Careful()
    stand = await start("modern", plugins=[Keys(), careful])
    call: Any = {"name": "echo", "arguments": {"a": 1}}
    asks = (await modern(stand, "alice", "tools/call", call)).json["result"]
    back = {**call, "inputResponses": {"approval": ACCEPTED}, "requestState": asks["requestState"]}
    made_up = await modern(stand, "bob", "tools/call", {**back, "requestState": MADE_UP})
    same(await modern(stand, "bob", "tools/call", back), made_up)
    same(await modern(stand, "alice", "tools/call", {**back, "arguments": {"a": 2}}), made_up)
    assert careful.approved == []
    assert "result" in (await modern(stand, "alice", "tools/call", back)).json
    same(await modern(stand, "alice", "tools/call", back), made_up)
    assert careful.approved == ["alice"]
    assert len(stand.lab.of("tools/call")) == 1


async def test_a_cursor_of_a_private_list(start: Any, msg: Any) -> None:
    stand = await start("modern", plugins=[Keys()], proxy="[mcp.proxy.limits]\npage_size = 2")

    async def private(seen: Any, send: Any) -> None:
        tools = [{"name": f"t{number}", "inputSchema": {"type": "object"}} for number in range(5)]
        result = {"resultType": "complete", "tools": tools, "ttlMs": 60_000, "cacheScope": "private"}
        await msg.answer(send, 200, json.dumps({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}).encode())

    async def listing(seen: Any, send: Any) -> None:
        await (private if seen.method == "tools/list" else stand.lab.wires["other"])(seen, send)

    stand.lab.wires["POST"] = listing
    await stand.gateway.pool.upstreams[0].refresh()
    first = (await modern(stand, "alice", "tools/list")).json["result"]
    cursor = first["nextCursor"]
    assert first["cacheScope"] == "private"
    same(
        await modern(stand, "bob", "tools/list", {"cursor": cursor}),
        await modern(stand, "bob", "tools/list", {"cursor": MADE_UP}),
    )
    assert "result" in (await modern(stand, "alice", "tools/list", {"cursor": cursor})).json


async def test_a_subscription(guarded: Any, msg: Any) -> None:
    alice, bob = await session_of(guarded, "alice"), await session_of(guarded, "bob")
    uri = {"uri": "memo://lab1/today"}
    for headers in (alice, bob):
        await guarded.send("POST", headers, msg.legacy("resources/subscribe", uri, 3))
    await guarded.send("POST", bob, msg.legacy("resources/unsubscribe", uri, 4))
    await guarded.send("DELETE", bob)
    (left,) = guarded.gateway.sessions
    assert left.record.uris == [uri["uri"]]
    listening = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}}
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", CAPABILITIES: {}, CLIENT_INFO: {"name": "a"}}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    body = msg.legacy("subscriptions/listen", {"notifications": {"toolsListChanged": True}, "_meta": meta}, 9)
    async with guarded.stream("POST", {**headers, **bearer("alice")}, body) as events:
        await events.message()
        await guarded.send("POST", {**headers, "Mcp-Method": "notifications/cancelled", **bearer("bob")}, listening)
        for listener in tuple(guarded.gateway.catalog._listeners):
            listener(frozenset({"tool", "tools"}))
        assert not events.response.content.at_eof()
