"""The legacy era over HTTP: sessions, calls that survive a disconnect, standalone GET streams, questions."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from loguru import logger

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}


def call(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    meta = {"progressToken": "t"}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


async def read_message(response: aiohttp.ClientResponse) -> Any:
    async with asyncio.timeout(5):
        while not (line := await response.content.readline()).startswith(b"data: "):
            assert line, "the stream ended"
    return json.loads(line[6:])


@pytest.mark.parametrize(
    ("requested", "agreed"),
    [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2025-03-26", "2025-03-26"),
        ("2024-11-05", "2024-11-05"),
        ("1900-01-01", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
    ],
)
async def test_initialize_agrees_on_a_version(world: Any, helpers: Any, requested: str, agreed: str) -> None:
    answer = await world.post(helpers.initialize(version=requested))
    assert answer.status == 200
    result = answer.json["result"]
    assert result["protocolVersion"] == agreed
    assert result["serverInfo"] == {"name": "gateway", "version": "1"}
    assert result["instructions"] == "hello legacy"
    session_id = answer.headers["Mcp-Session-Id"]
    assert len(session_id) >= 43
    assert all("!" <= char <= "~" for char in session_id)


@pytest.mark.parametrize("change", [{"protocolVersion": 5}, {"protocolVersion": None}, {"capabilities": []}])
async def test_a_malformed_initialize_opens_no_session(world: Any, helpers: Any, change: Any) -> None:
    request = helpers.initialize()
    request["params"].update(change)
    answer = await world.post(request)
    assert answer.json["error"]["code"] == -32602
    assert len(world.downstream.sessions) == 0


async def test_both_paths_serve(world: Any) -> None:
    session = await world.initialize()
    answer = await world.post(call("echo"), session, path="/")
    assert answer.json["result"]["content"][0]["text"] == "{}"


async def test_the_exchange_knows_its_agent(world: Any) -> None:
    session = await world.initialize("claude-code")
    await world.post(call("echo"), session)
    agent = world.pipeline.exchanges[0].agent
    assert agent.principal.id == "claude-code@127.0.0.1"
    assert (agent.era, agent.protocol_version) == ("legacy", "2025-11-25")
    assert agent.session_id == session["Mcp-Session-Id"]
    assert json.loads(agent.client_info)["name"] == "claude-code"


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_a_request_needs_a_session_that_exists(world: Any, method: str) -> None:
    for headers, status in [({}, 400), ({"Mcp-Session-Id": "nonsense"}, 404)]:
        body = {"json": call("echo")} if method == "POST" else {}
        async with world.http.request(method, world.url, headers=headers, **body) as response:
            assert response.status == status
            assert "error" in await response.json()
    assert not world.pipeline.exchanges


async def test_a_session_of_another_address_looks_like_none(world: Any) -> None:
    session = await world.initialize()
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as stranger:
        bodies = []
        for headers in (session, {**session, "Mcp-Session-Id": "unknown"}):
            async with stranger.post(world.url, json=call("echo"), headers=headers) as response:
                assert response.status == 404
                bodies.append(await response.read())
        async with stranger.delete(world.url, headers=session) as response:
            assert response.status == 404
    assert bodies[0] == bodies[1]
    assert (await world.post(call("echo"), session)).status == 200


@pytest.mark.parametrize("version", ["1900-01-01", "2026-07-28", "x"])
async def test_a_version_that_is_not_legacy_is_a_bad_request_in_a_session(world: Any, version: str) -> None:
    session = await world.initialize()
    answer = await world.post(call("echo"), {**session, "MCP-Protocol-Version": version})
    assert answer.status == 400


async def test_without_a_version_header_the_agreed_version_holds(world: Any) -> None:
    session = await world.initialize()
    del session["MCP-Protocol-Version"]
    assert (await world.post(call("echo"), session)).status == 200


async def test_initialize_in_a_session_is_refused(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    known = await world.post(helpers.initialize(), session)
    assert known.status == 400
    assert len(world.downstream.sessions) == 1


@pytest.mark.parametrize("stale", ["ended", "unknown", "of another transport", "of another address"])
async def test_initialize_with_a_stale_session_header_opens_a_new_session(start: Any, helpers: Any, stale: str) -> None:
    world = await start(transport="sse")
    session = await world.initialize()
    session_id = session["Mcp-Session-Id"]
    if stale == "ended":
        async with world.http.delete(world.url, headers=session) as response:
            assert response.status == 204
    elif stale == "unknown":
        session_id = "x" * 43
    elif stale == "of another address":
        (known,) = world.downstream.sessions
        for table in (world.downstream.sessions._live, world.store._sessions):
            table["10.0.0.1", session_id] = table.pop((known.record.caller.key, session_id))
    else:
        (known,) = world.downstream.sessions
        known.record.on_channel = True
    answer = await world.post(helpers.initialize(), {**session, "Mcp-Session-Id": session_id})
    assert answer.status == 200
    opened = answer.headers["Mcp-Session-Id"]
    assert opened != session_id
    assert (await world.post(call("echo"), {"Mcp-Session-Id": opened})).status == 200


async def test_ping_and_unknown_methods(world: Any) -> None:
    session = await world.initialize()
    pong = await world.post({"jsonrpc": "2.0", "id": "p", "method": "ping"}, session)
    assert pong.json == {"jsonrpc": "2.0", "id": "p", "result": {}}
    for method in ("server/discover", "subscriptions/listen", "no/such"):
        answer = await world.post({"jsonrpc": "2.0", "id": 1, "method": method}, session)
        assert (answer.status, answer.json["error"]["code"]) == (200, -32601)


async def test_notifications_and_stray_responses_are_accepted(world: Any) -> None:
    session = await world.initialize()
    for body in (
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": {}}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "id": 5, "result": {}},
        {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "m"}},
    ):
        answer = await world.post(body, session)
        assert (answer.status, answer.body) == (202, b"")


async def test_progress_makes_the_answer_a_stream(world: Any) -> None:
    session = await world.initialize()
    answer = await world.post(call("progress"), session)
    assert answer.headers["Content-Type"] == "text/event-stream"
    *progress, result = answer.events
    assert [message["params"]["progress"] for message in progress] == [1, 2, 3]
    assert result["id"] == 1


async def test_a_disconnect_does_not_cancel_the_call(world: Any) -> None:
    session = await world.initialize()
    posting = asyncio.ensure_future(world.post(call("nap"), session))
    await world.pipeline.started.wait()
    posting.cancel()
    await asyncio.sleep(0.2)
    assert not world.pipeline.finished.is_set()
    world.pipeline.released.set()
    async with asyncio.timeout(2):
        await world.pipeline.finished.wait()
    assert not world.pipeline.cancelled.is_set()
    await world.downstream.gate.wait_empty(1)
    assert world.downstream.gate.in_flight == 0


async def test_a_disconnect_in_the_middle_of_a_stream_does_not_cancel_the_call(world: Any) -> None:
    session = await world.initialize()
    body = call("progress", steps=60, slow=True)
    async with world.http.post(world.url, json=body, headers=session) as response:
        await read_message(response)
        response.close()
    async with asyncio.timeout(5):
        await world.pipeline.finished.wait()
    assert not world.pipeline.cancelled.is_set()


async def test_the_agent_cancels_its_request(world: Any) -> None:
    session = await world.initialize()
    posting = asyncio.ensure_future(world.post(call("sleep", 1), session))
    await world.pipeline.started.wait()
    for wrong in ("1", 2):
        await world.post(
            {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": wrong}}, session
        )
    await asyncio.sleep(0.05)
    assert not world.pipeline.cancelled.is_set()
    await world.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}, session)
    answer = await asyncio.wait_for(posting, 2)
    assert answer.json["error"]["code"] == -31006
    assert world.pipeline.cancelled.is_set()


async def test_an_agent_cannot_cancel_anothers_request(world: Any) -> None:
    session, other = await world.initialize("a"), await world.initialize("b")
    posting = asyncio.ensure_future(world.post(call("nap", 1), session))
    await world.pipeline.started.wait()
    await world.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}, other)
    await asyncio.sleep(0.05)
    world.pipeline.released.set()
    assert (await posting).json["result"]["content"][0]["text"] == "woken"


async def test_an_id_in_flight_is_not_used_twice_but_agents_may_share_it(world: Any) -> None:
    session, other = await world.initialize("a"), await world.initialize("b")
    first = asyncio.ensure_future(world.post(call("nap", 1), session))
    await world.pipeline.started.wait()
    again = await world.post(call("echo", 1), session)
    assert again.json["error"]["code"] == -32600
    assert (await world.post(call("echo", "1"), session)).json["id"] == "1"
    assert "result" in (await world.post(call("echo", 1), other)).json
    world.pipeline.released.set()
    assert (await first).json["result"]["content"][0]["text"] == "woken"
    assert "result" in (await world.post(call("echo", 1), session)).json


async def test_delete_ends_the_session_and_what_hangs_on_it(world: Any) -> None:
    session = await world.initialize()
    async with world.http.get(world.url, headers=session) as stream:
        posting = asyncio.ensure_future(world.post(call("sleep"), session))
        await world.pipeline.started.wait()
        async with world.http.delete(world.url, headers=session) as response:
            assert response.status == 204
        assert (await posting).json["error"]["code"] == -31006
        assert b"event: message" not in await asyncio.wait_for(stream.content.read(), 2)
    await world.downstream.sessions.wait_closed(1)
    assert world.ended == [session["Mcp-Session-Id"]]
    assert (await world.post(call("echo"), session)).status == 404


async def test_what_hangs_on_a_session_may_take_its_time_to_end(world: Any) -> None:
    told: list[str] = []

    async def slowly(session_id: str) -> None:
        await asyncio.sleep(0.05)
        told.append(session_id)
        raise ValueError("broken upstream")

    world.on_session_end = slowly
    session = await world.initialize()
    async with world.http.delete(world.url, headers=session) as response:
        assert response.status == 204
    assert not told
    await world.downstream.sessions.wait_closed(2)
    assert told == [session["Mcp-Session-Id"]]


async def test_each_change_is_told_on_one_stream_only(world: Any) -> None:
    session = await world.initialize()
    async with (
        world.http.get(world.url, headers=session) as first,
        world.http.get(world.url, headers=session) as second,
    ):
        assert first.headers["X-Accel-Buffering"] == "no"
        seen: list[Any] = []

        async def follow(stream: Any) -> None:
            while True:
                seen.append((await read_message(stream))["method"])

        following = [asyncio.ensure_future(follow(stream)) for stream in (first, second)]
        for kind in ("tools", "prompts", "resources"):
            world.catalog.change(kind)
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    assert sorted(seen) == [
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/tools/list_changed",
    ]


async def test_changes_wait_for_a_stream_and_are_not_repeated(world: Any) -> None:
    session = await world.initialize()
    for _ in range(1000):
        world.catalog.change("tools")
    async with world.http.get(world.url, headers=session) as stream:
        assert (await read_message(stream))["method"] == "notifications/tools/list_changed"
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(stream.content.readline(), 0.2) and await asyncio.wait_for(
                stream.content.readline(), 0.2
            )


async def test_streams_of_a_session_are_bounded(world: Any) -> None:
    session = await world.initialize()
    streams = [await world.http.get(world.url, headers=session) for _ in range(9)]
    assert [stream.status for stream in streams] == [200] * 8 + [429]
    for stream in streams:
        stream.close()


async def test_get_needs_to_accept_a_stream(world: Any) -> None:
    session = await world.initialize()
    async with world.http.get(world.url, headers={**session, "Accept": "application/json"}) as response:
        assert response.status == 406


async def test_a_question_goes_over_the_calls_stream_and_its_answer_comes_by_post(world: Any) -> None:
    session, other = await world.initialize("a"), await world.initialize("b")
    async with world.http.post(world.url, json=call("ask", 9), headers=session) as response:
        question = await read_message(response)
        assert question["method"] == "elicitation/create"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept"}}
        assert (await world.post(answer, other)).status == 202  # a stranger's answer is nobody's
        assert (await world.post({**answer, "id": str(question["id"])}, session)).status == 202
        await asyncio.sleep(0.05)
        assert not world.pipeline.finished.is_set()
        assert (await world.post(answer, session)).status == 202
        result = await read_message(response)
    assert result["id"] == 9
    assert json.loads(result["result"]["content"][0]["text"]) == {"action": "accept"}


async def test_a_refused_question_is_an_error_of_the_call(world: Any) -> None:
    session = await world.initialize()
    async with world.http.post(world.url, json=call("ask"), headers=session) as response:
        question = await read_message(response)
        refusal = {"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no"}}
        await world.post(refusal, session)
        assert (await read_message(response))["error"]["code"] == -1


async def test_a_cancelled_call_takes_its_question_back(world: Any) -> None:
    session = await world.initialize()
    async with world.http.post(world.url, json=call("ask", 3), headers=session) as response:
        question = await read_message(response)
        await world.post({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}, session)
        withdrawn = await read_message(response)
        assert withdrawn["method"] == "notifications/cancelled"
        assert withdrawn["params"]["requestId"] == question["id"]
        assert (await read_message(response))["error"]["code"] == -31006


async def test_a_client_that_accepts_no_stream_cannot_be_asked(world: Any) -> None:
    session = await world.initialize()
    answer = await world.post(call("ask"), {**session, "Accept": "application/json"})
    assert answer.json["error"]["code"] == -32601


async def test_the_session_limit_of_one_agent_is_no_other_agents_business(start: Any, helpers: Any) -> None:
    world = await start(limits={"sessions_per_principal": 2, "sessions": 4})
    greedy = [await in_use(world, "greedy") for _ in range(2)]
    refused = await world.post(helpers.initialize("greedy"))
    assert (refused.status, refused.json["error"]["code"], refused.json["id"]) == (429, -31005, 0)
    assert refused.headers["Retry-After"] == "1"
    modest = [await in_use(world, "modest") for _ in range(2)]
    full = await world.post(helpers.initialize("third"))
    assert (full.status, full.headers["Retry-After"]) == (503, "1")
    async with world.http.delete(world.url, headers=modest[1][0]) as response:
        assert response.status == 204
    await world.initialize("third")
    world.pipeline.released.set()
    for _, nap in (*greedy, modest[0]):
        assert (await nap).json["result"]["content"][0]["text"] == "woken"


async def test_retry_after_is_the_time_of_the_calls_whatever_else_their_agents_send(start: Any, helpers: Any) -> None:
    world = await start(limits={"sessions_per_principal": 1})
    session, nap = await in_use(world, "talkative")
    for each in world.downstream.sessions:
        each.record.busy_since -= 20
    notification = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    for message in ({"jsonrpc": "2.0", "id": "p", "method": "ping"}, call("echo", request_id="e"), notification):
        assert (await world.post(message, session)).status in {200, 202}
        refused = await world.post(helpers.initialize("talkative"))
        assert refused.status == 429
        assert 20 <= int(refused.headers["Retry-After"]) <= 60
        assert refused.json["error"]["data"]["retryAfterMs"] >= 20_000
    world.pipeline.released.set()
    assert (await nap).status == 200


async def in_use(world: Any, name: str) -> tuple[dict[str, str], "asyncio.Task[Any]"]:
    """The headers of a new session, and the call in flight in it."""
    session = await world.initialize(name)
    world.pipeline.started.clear()
    nap = asyncio.create_task(world.post(call("nap"), session))
    await world.pipeline.started.wait()
    return session, nap


async def test_clients_that_never_delete_their_sessions_get_new_ones(start: Any) -> None:
    world = await start(limits={"sessions_per_principal": 3})
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING", format="{message}")
    quiet = await world.initialize("quiet")
    used, nap = await in_use(world, "forgetful")
    first = await world.initialize("forgetful")
    for _ in range(20):
        last = await world.initialize("forgetful")
    assert len(world.downstream.sessions) == 4
    assert (await world.post(call("echo"), first)).status == 404
    assert len(world.ended) == 19, "what hangs on the sessions that ended is told"
    for session in (quiet, used, last):
        assert (await world.post(call("echo", request_id=2), session)).status == 200
    world.pipeline.released.set()
    assert (await nap).status == 200
    logger.remove(sink)
    told = [line for line in lines if "DELETE" in line]
    assert len(told) == 1
    assert "forgetful@127.0.0.1" in told[0]


async def test_unused_sessions_end_but_not_those_in_use(start: Any) -> None:
    world = await start(limits={"session_idle": 0.2})
    idle, used = await world.initialize(), await world.initialize()
    async with world.http.get(world.url, headers=used):
        await asyncio.sleep(1.5)
        assert world.ended == [idle["Mcp-Session-Id"]]
    assert (await world.post(call("echo"), idle)).status == 404
    assert (await world.post(call("echo"), used)).status == 200


async def test_the_limit_on_requests_in_flight_is_an_error_of_the_request(start: Any) -> None:
    world = await start(limits={"in_flight": 1})
    session = await world.initialize()
    first = asyncio.ensure_future(world.post(call("nap", 1), session))
    await world.pipeline.started.wait()
    second = await world.post(call("echo", 2), session)
    assert (second.status, second.json["error"]["code"]) == (200, -31005)
    world.pipeline.released.set()
    await first


async def test_stopping_lets_calls_finish_and_takes_no_new_ones(world: Any) -> None:
    session = await world.initialize()
    stream = await world.http.get(world.url, headers=session)
    pong = await world.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, session)  # leaves an idle connection
    assert pong.status == 200
    first = asyncio.ensure_future(world.post(call("nap", 1), session))
    await world.pipeline.started.wait()
    idle = await world.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, session)
    assert idle.status == 200
    world.server.stop_accepting()
    refused = await world.post(call("echo", 2), session)
    assert refused.json["error"]["code"] == -31005
    closing = asyncio.ensure_future(world.server.close(5))
    await asyncio.sleep(0.1)
    assert not closing.done()
    world.pipeline.released.set()
    assert (await first).json["result"]["content"][0]["text"] == "woken"
    assert b"event: message" not in await asyncio.wait_for(stream.content.read(), 2)
    await asyncio.wait_for(closing, 5)
    assert world.ended == [session["Mcp-Session-Id"]]


async def test_while_stopping_lists_are_answered_and_no_stream_or_session_begins(world: Any, helpers: Any) -> None:
    session = await world.initialize()
    world.server.stop_accepting()
    async with world.http.get(world.url, headers=session) as stream:
        assert stream.status == 503
        assert stream.headers["Retry-After"] == "1"
        assert (await stream.json())["error"]["code"] == -31005
    opening = await world.post(helpers.initialize())
    assert (opening.status, opening.json["error"]["code"], opening.json["id"]) == (503, -31005, 0)
    refused = await world.post(call("echo", 2), session)
    assert (refused.status, refused.json["error"]["code"]) == (200, -31005)
    for method in ("tools/list", "ping"):
        answer = await world.post({"jsonrpc": "2.0", "id": 3, "method": method}, session)
        assert "result" in answer.json
