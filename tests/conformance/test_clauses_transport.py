"""Clauses on HTTP that hold for both eras, and on what a modern agent's connection means.

Sources: basic/transports/streamable-http and basic/patterns/cancellation of 2026-07-28, basic/transports of 2025-11-25.
"""

import asyncio
import json
from typing import Any

import pytest

from gateway_core.downstream.streams import stream

MODERN = {"MCP-Protocol-Version": "2026-07-28"}
LISTEN = {"notifications": {"toolsListChanged": True}}


# -- 1: Origin ------------------------------------------------------------------------------------------------------

FOREIGN = ["http://evil.example", "null", "http://localhost.evil.example", "http://[::1].evil.example", "file://", ""]
OWN = ["http://localhost", "http://127.0.0.1:9", "http://[::1]:3000", "https://localhost"]


@pytest.mark.parametrize(
    ("verb", "path"), [("POST", "/mcp"), ("POST", "/"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("GET", "/sse")]
)
async def test_clause_01_a_foreign_origin_is_forbidden(start: Any, msg: Any, verb: str, path: str) -> None:
    stand = await start("modern", proxy='transport = "sse"')
    body = msg.legacy("ping") if verb == "POST" else None
    for origin in FOREIGN:
        answer = await stand.send(verb, {"Origin": origin}, body, path)
        assert answer.status == 403, origin
        assert "id" not in answer.json
    assert (await stand.send("POST", {"Origin": FOREIGN[0]}, body, "/messages?session_id=x")).status == 403


async def test_clause_01_an_origin_of_this_machine_is_let_in(stand: Any) -> None:
    for origin in OWN:
        assert (await stand.modern("tools/list", Origin=origin)).status == 200, origin


# -- 3, 4, 47: one message, and those that are not answered ---------------------------------------------------------


async def test_clause_03_a_batch_is_refused(stand: Any, msg: Any) -> None:
    session = await stand.initialize()
    headers, body = msg.modern("tools/call", msg.calling("echo"))
    for sent, batch in [(headers, [body]), (session, [msg.legacy("ping"), msg.legacy("ping", None, 2)]), (session, [])]:
        answer = await stand.send("POST", sent, batch)
        assert (answer.status, answer.code) == (400, -32600)
    assert not stand.lab.of("tools/call")


async def test_clause_03_a_batch_of_2025_03_26_is_served(stand: Any, msg: Any) -> None:
    session = await stand.initialize(version="2025-03-26")
    batch = [msg.legacy("ping"), msg.legacy("tools/call", msg.calling("echo", text="a"), 2)]
    answer = await stand.send("POST", session, batch)
    assert answer.status == 200
    assert {one["id"] for one in answer.json if "result" in one} == {1, 2}
    assert len(stand.lab.of("tools/call")) == 1


async def test_clause_03_modern_agents_send_no_responses(stand: Any, msg: Any) -> None:
    for body in ({"result": {}}, {"error": {"code": 1, "message": "m"}}):
        answer = await stand.send("POST", MODERN, {"jsonrpc": "2.0", "id": 1, **body})
        assert answer.status == 400
        assert "id" not in answer.json


async def test_clause_04_a_notification_is_accepted_without_a_body(stand: Any) -> None:
    session = await stand.initialize()
    for headers, method in [
        (MODERN, "notifications/cancelled"),
        (MODERN, "notifications/unheard/of"),
        (session, "notifications/roots/list_changed"),
        (session, "notifications/unheard/of"),
    ]:
        answer = await stand.send("POST", headers, {"jsonrpc": "2.0", "method": method})
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (202, b"", "0")


@pytest.mark.parametrize("name", ["echo", "nonsense"])
async def test_clause_47_a_notification_is_never_answered_whatever_it_asks_for(stand: Any, msg: Any, name: str) -> None:
    session = await stand.initialize()
    silent = {"jsonrpc": "2.0", "method": "tools/call", "params": msg.calling(name)}
    for headers in (MODERN, session):
        answer = await stand.send("POST", headers, silent)
        assert (answer.status, answer.body) == (202, b"")
    assert (await stand.legacy(session, "ping", None, 2)).json["id"] == 2
    assert not stand.lab.of("tools/call")


async def test_clause_47_a_notification_on_a_channel_stays_silent(start: Any, msg: Any) -> None:
    """On HTTP+SSE, as on stdio, an answer would be the next thing on the channel."""
    stand = await start("modern", proxy='transport = "sse"')
    async with stand.http.get(f"{stand.base}/sse") as response:
        lines = response.content
        while not (line := (await lines.readline()).decode()).startswith("data: "):
            pass
        path = "/" + line.removeprefix("data: ").strip()
        silent = {"jsonrpc": "2.0", "method": "tools/call", "params": msg.calling("nonsense")}
        for body in (silent, {"jsonrpc": "2.0", "method": "initialize"}, msg.legacy("ping", None, 9)):
            assert (await stand.send("POST", None, body, path)).status == 202
        while not (line := (await lines.readline()).decode()).startswith("data: "):
            pass
    assert json.loads(line.removeprefix("data: ")) == {"jsonrpc": "2.0", "id": 9, "result": {}}


async def test_clause_47_what_the_gateway_notifies_carries_no_id(stand: Any, msg: Any) -> None:
    stand.lab.released.set()
    answer = await stand.modern("tools/call", msg.calling("steps", "t"))
    *notifications, response = answer.messages
    assert [message["method"] for message in notifications] == ["notifications/progress"] * 2
    assert not any("id" in message for message in notifications)
    assert response["id"] == 1


# -- 6: streams and what is between ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["listen", "standalone", "modern call", "legacy call"])
async def test_clause_06_streams_are_not_buffered_and_kept_alive(
    stand: Any, msg: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    assert stream.KEEP_ALIVE <= 15
    monkeypatch.setattr(stream, "KEEP_ALIVE", 0.05)
    session = await stand.initialize()
    steps = msg.calling("steps", "t")
    verb, (headers, body) = {
        "listen": ("POST", msg.modern("subscriptions/listen", LISTEN)),
        "standalone": ("GET", (session, None)),
        "modern call": ("POST", msg.modern("tools/call", steps)),
        "legacy call": ("POST", (session, msg.legacy("tools/call", steps))),
    }[kind]
    async with stand.stream(verb, headers, body) as events:
        assert events.response.content_type == "text/event-stream"
        assert events.response.headers["X-Accel-Buffering"] == "no"
        assert "no-transform" in events.response.headers["Cache-Control"]
        while (event := await events.next()) != {"": "keep-alive"}:
            assert event is not None


# -- 7, 8, 26, 28: who leaves, and who cancels ----------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["steps", "forever"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_07_a_modern_agent_that_leaves_has_cancelled(start: Any, msg: Any, era: str, tool: str) -> None:
    stand = await start(era)
    headers, body = msg.modern("tools/call", msg.calling(tool, "t"))
    async with stand.stream("POST", headers, body) as events:
        assert (await events.message())["method"] == "notifications/progress"
    async with asyncio.timeout(1):
        await stand.lab.cancelled.wait()
    told = stand.lab.of("notifications/cancelled")
    if era == "legacy":
        # The upstream knows the call by the hop's own id.
        (call,) = stand.lab.of("tools/call")
        assert [notice.params["requestId"] for notice in told] == [call.body["id"]]
    else:
        assert not told
    async with asyncio.timeout(1):
        while stand.gateway.pipeline.in_flight:
            await asyncio.sleep(0.01)


async def test_clause_07_an_agent_that_waits_for_one_piece_cancels_by_leaving_too(stand: Any, msg: Any) -> None:
    leaving = asyncio.ensure_future(stand.modern("tools/call", msg.calling("steps")))
    async with asyncio.timeout(5):
        await stand.lab.started.wait()
    leaving.cancel()
    async with asyncio.timeout(1):
        await stand.lab.cancelled.wait()


@pytest.mark.parametrize("token", [None, "t"])
async def test_clause_08_a_legacy_agent_that_leaves_has_not_cancelled(legacy_stand: Any, msg: Any, token: Any) -> None:
    stand = legacy_stand
    session = await stand.initialize()
    leaving = asyncio.ensure_future(stand.legacy(session, "tools/call", msg.calling("steps", token)))
    async with asyncio.timeout(5):
        await stand.lab.started.wait()
    before = stand.gateway.status()["connections"]
    leaving.cancel()
    async with asyncio.timeout(5):
        while stand.gateway.status()["connections"] == before:
            await asyncio.sleep(0.01)
        stand.lab.released.set()
        await stand.lab.finished.wait()
    assert not stand.lab.of("notifications/cancelled")


async def test_clause_08_its_call_ends_at_the_hard_maximum(start: Any, msg: Any) -> None:
    stand = await start("legacy", proxy="timeout = 1.5\nmax_timeout = 3")
    session = await stand.initialize()
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("forever", "t"))) as events:
        await events.message()
    async with asyncio.timeout(30):
        await stand.lab.cancelled.wait()
    assert len(stand.lab.of("notifications/cancelled")) == 1


async def test_clause_08_a_legacy_agent_cancels_explicitly(legacy_stand: Any, msg: Any) -> None:
    stand = legacy_stand
    session = await stand.initialize()
    async with stand.stream("POST", session, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
        await events.message()
        await stand.send("POST", session, cancel(7))
        async with asyncio.timeout(1):
            await stand.lab.cancelled.wait()
    (call,) = stand.lab.of("tools/call")
    assert [notice.params["requestId"] for notice in stand.lab.of("notifications/cancelled")] == [call.body["id"]]


async def test_clause_26_only_ones_own_request_is_cancelled(start: Any, msg: Any) -> None:
    stand = await start("legacy", "legacy")
    mine, other = await stand.initialize("a"), await stand.initialize("b")
    async with stand.stream("POST", mine, msg.legacy("tools/call", msg.calling("steps", "t"), 7)) as events:
        await events.message()
        for session, request_id in [(other, 7), (mine, "7"), (mine, 0), (mine, 99), (MODERN, 7)]:
            assert (await stand.send("POST", session, cancel(request_id))).status == 202
        assert (await stand.legacy(mine, "ping")).json["result"] == {}
        assert not stand.lab.cancelled.is_set()
        await stand.send("POST", mine, cancel(7))
        async with asyncio.timeout(1):
            await stand.lab.cancelled.wait()
    assert not stand.labs["lab1"].of("notifications/cancelled"), "only who runs the call is told"


async def test_clause_26_initialize_is_not_cancelled_upstream(start: Any, msg: Any) -> None:
    stand = await start("legacy")
    assert not stand.lab.of("notifications/cancelled")
    session = await stand.initialize()
    await stand.send("POST", session, cancel(0))
    assert (await stand.legacy(session, "tools/list")).status == 200


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_28_no_agent_is_told_that_its_own_request_was_cancelled(start: Any, msg: Any, era: str) -> None:
    """A call that the gateway ends itself, with its stream open: what follows is the answer, nothing else."""
    stand = await start("legacy", proxy="timeout = 2\nmax_timeout = 2")
    params = msg.calling("steps", "t")
    headers, body = msg.modern("tools/call", params)
    if era == "legacy":
        headers, body = await stand.initialize(), msg.legacy("tools/call", params)
    async with stand.stream("POST", headers, body) as events:
        messages = await events.rest()
    assert [message.get("method") for message in messages] == ["notifications/progress", None]
    assert messages[-1]["result"]["isError"] is True


def cancel(request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}}


# -- 24: responses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", [1, "1", 0, -5, 2**70, "", "ä\n"])
async def test_clause_24_a_response_has_the_id_of_its_request(stand: Any, msg: Any, request_id: Any) -> None:
    answer = await stand.modern("tools/call", msg.calling("echo"), request_id)
    assert (answer.json["id"], type(answer.json["id"])) == (request_id, type(request_id))
    refused = await stand.modern("tools/call", msg.calling("nonsense"), request_id)
    assert (refused.json["id"], refused.code) == (request_id, -32602)
    old = await stand.legacy(await stand.initialize(), "tools/call", msg.calling("echo"), request_id)
    assert old.json["id"] == request_id


@pytest.mark.parametrize(
    ("result_type", "expected"), [("zzz", None), (5, None), (None, "complete"), ("complete", "complete")]
)
async def test_clause_24_an_unknown_result_type_is_an_error_and_none_is_complete(
    stand: Any, msg: Any, result_type: Any, expected: Any
) -> None:
    async def wire(seen: Any, send: Any) -> None:
        result = {"content": []} | ({"resultType": result_type} if result_type is not None else {})
        await msg.answer(send, 200, json.dumps({"jsonrpc": "2.0", "id": seen.body["id"], "result": result}).encode())

    stand.lab.wires["echo"] = wire
    answer = await stand.modern("tools/call", msg.calling("echo"))
    if expected is None:
        assert answer.code == -31002
        assert "resultType" in answer.json["error"]["message"]
        assert "result" not in answer.json
    else:
        assert answer.json["result"]["resultType"] == expected
