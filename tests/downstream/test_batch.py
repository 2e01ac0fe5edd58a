"""Batches: arrays of messages of agents that negotiated 2025-03-26."""

import asyncio
import json
from typing import Any

import pytest

from gateway_core.downstream.batch import MAX_MESSAGES, SLICE, decode_batch, is_batch
from gateway_core.errors import RpcError
from gateway_core.exchange.exchange import Agent

VERSION = "2025-03-26"
BOTH = {"Accept": "application/json, text/event-stream"}


def call(name: str = "echo", request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": request_id}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


def ping(request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": "ping"}


NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}


@pytest.fixture
async def session(world: Any) -> dict[str, str]:
    opened: dict[str, str] = await world.initialize(version=VERSION)
    return {**opened, **BOTH}


def by_id(messages: list[Any]) -> dict[Any, Any]:
    return {message["id"]: message for message in messages if "id" in message}


async def test_the_answers_to_a_batch_come_in_an_array(world: Any, session: dict[str, str]) -> None:
    answer = await world.post([call(request_id=1, a=1), NOTIFICATION, ping("p"), call("nothing", 3)], session)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert len(answer.json) == 3
    found = by_id(answer.json)
    assert json.loads(found[1]["result"]["content"][0]["text"]) == {"a": 1}
    assert found["p"]["result"] == {}
    assert found[3]["error"]["code"] == -32602


async def test_a_batch_of_one_is_answered_by_an_array_too(world: Any, session: dict[str, str]) -> None:
    assert [message["id"] for message in (await world.post([ping(9)], session)).json] == [9]


async def test_the_version_header_of_later_clients_does_no_harm(world: Any, session: dict[str, str]) -> None:
    without = {name: value for name, value in session.items() if name != "MCP-Protocol-Version"}
    for headers in (session, without):
        assert len((await world.post([ping(1), ping(2)], headers)).json) == 2


async def test_each_message_passes_the_pipeline_with_its_own_exchange(world: Any, session: dict[str, str]) -> None:
    await world.post([call(request_id=number) for number in range(5)], session)
    assert len(world.pipeline.exchanges) == 5
    assert world.downstream.gate.in_flight == 0


async def test_a_batch_without_requests_is_accepted_without_a_body(world: Any, session: dict[str, str]) -> None:
    response = {"jsonrpc": "2.0", "id": 77, "result": {}}
    for batch in ([NOTIFICATION], [NOTIFICATION, NOTIFICATION], [response], [response, NOTIFICATION]):
        answer = await world.post(batch, session)
        assert (answer.status, answer.body) == (202, b"")


async def test_progress_begins_a_stream_that_carries_every_response(world: Any, session: dict[str, str]) -> None:
    posting = asyncio.ensure_future(world.post([ping(1), call("progress", 2, slow=True), call("nap", 3)], session))
    await world.pipeline.started.wait()
    await asyncio.sleep(0.1)
    world.pipeline.released.set()
    answer = await posting
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert by_id(answer.events).keys() == {1, 2, 3}
    steps = [event["params"]["progress"] for event in answer.events if event.get("method") == "notifications/progress"]
    assert steps == [1, 2, 3]


async def test_an_agent_that_accepts_only_streams_gets_one(world: Any, session: dict[str, str]) -> None:
    headers = {**session, "Accept": "text/event-stream"}
    assert by_id((await world.post([call(request_id=1), call(request_id=2)], headers)).events).keys() == {1, 2}
    answer = await world.post([ping(1), ping(2)], headers)
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert by_id(answer.events).keys() == {1, 2}


async def test_an_agent_that_accepts_only_json_gets_no_stream(world: Any, session: dict[str, str]) -> None:
    headers = {**session, "Accept": "application/json"}
    answer = await world.post([call("progress", 1), call(request_id=2)], headers)
    assert by_id(answer.json).keys() == {1, 2}


async def test_a_silent_batch_becomes_a_stream(
    world: Any, session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 0.01)
    async with world.http.post(world.url, json=[ping("early"), call("nap", 1)], headers=session) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        async with asyncio.timeout(5):
            while b'"early"' not in (await response.content.readline()):
                pass
        world.pipeline.released.set()
        assert b'"woken"' in await response.read()


async def test_a_question_in_a_batch_is_asked_on_its_stream(world: Any, session: dict[str, str]) -> None:
    async with world.http.post(world.url, json=[call("ask", 1), call(request_id=2)], headers=session) as response:
        async with asyncio.timeout(5):
            while not (line := await response.content.readline()).startswith(b"data: {"):
                pass
            question = json.loads(line[6:])
            assert question["method"] == "elicitation/create"
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
            assert (await world.post([answer], session)).status == 202
            rest = (await response.read()).decode().splitlines()
    found = by_id([json.loads(line[6:]) for line in rest if line.startswith("data: {")])
    assert found.keys() == {1, 2}


async def test_calls_of_a_batch_can_be_cancelled(world: Any, session: dict[str, str]) -> None:
    posting = asyncio.ensure_future(world.post([call("sleep", 1), call(request_id=2)], session))
    await world.pipeline.started.wait()
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    await world.post([cancel], session)
    found = by_id((await posting).json)
    assert found[1]["error"]["code"] == -31006
    assert "result" in found[2]


async def test_the_rest_of_a_broken_stream_can_be_resumed(world: Any, session: dict[str, str]) -> None:
    batch = [call("announced", 1), call("announced", 2), ping(3)]
    async with world.http.post(world.url, json=batch, headers=session) as response:
        event_id = b""
        async with asyncio.timeout(5):
            while not (line := await response.content.readline()).startswith(b"data: {"):
                event_id = line[4:].strip() if line.startswith(b"id: ") else event_id
        response.close()
    await asyncio.sleep(0.05)
    world.pipeline.released.set()
    headers = {**session, "Accept": "text/event-stream", "Last-Event-ID": event_id.decode()}
    async with world.http.get(world.url, headers=headers) as response:
        async with asyncio.timeout(5):
            lines = (await response.read()).decode().splitlines()
    assert by_id([json.loads(line[6:]) for line in lines if line.startswith("data: {")]).keys() == {1, 2, 3}


async def test_a_batch_whose_agent_leaves_goes_on_and_keeps_nothing(world: Any, session: dict[str, str]) -> None:
    response = asyncio.ensure_future(world.post([call("nap", 1), call(request_id=2)], session))
    await world.pipeline.started.wait()
    response.cancel()
    await asyncio.sleep(0.05)
    assert world.downstream.gate.in_flight == 1
    world.pipeline.released.set()
    async with asyncio.timeout(5):
        while world.downstream.gate.in_flight:
            await asyncio.sleep(0.01)
    assert not next(iter(world.downstream.sessions)).kept._streams


async def test_a_malformed_message_refuses_the_batch_before_anything_runs(world: Any, session: dict[str, str]) -> None:
    twice = b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}'
    one = json.dumps(call()).encode()
    for bad in (b"1", b"{}", b"null", b"[]", b'{"jsonrpc":"2.0","id":{},"method":"ping"}', twice, b'{"jsonrpc":"1.0"}'):
        answer = await world.post(b"[" + one + b"," + bad + b"]", session)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600), bad
        assert "batch" in answer.json["error"]["message"]
    bad_meta = {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {}}}
    raw = json.dumps([call(), bad_meta]).replace('"_meta": {}', '"_meta": {"a": 1, "a": }').encode()
    assert (await world.post(raw, session)).status == 400
    for cut in (b"[" + one, b"[" + one + b",]", b"["):
        answer = await world.post(cut, session)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32700), cut
    assert not world.pipeline.exchanges


@pytest.mark.parametrize("batch", [[], [ping(1)] * (MAX_MESSAGES + 1), [ping(1)] * 20_000])
async def test_the_number_of_messages_is_bounded(world: Any, session: dict[str, str], batch: list[Any]) -> None:
    answer = await world.post(batch, session)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
    assert str(MAX_MESSAGES) in answer.json["error"]["message"]


async def test_a_batch_at_the_bound_is_served(world: Any, session: dict[str, str]) -> None:
    answer = await world.post([ping(number) for number in range(MAX_MESSAGES)], session)
    assert len(answer.json) == MAX_MESSAGES


async def test_other_agents_are_served_while_the_requests_of_a_batch_begin(
    world: Any, session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.batch.REST", 0.2)
    other = await world.initialize()
    batch = asyncio.ensure_future(world.post([call(request_id=number) for number in range(2 * SLICE)], session))
    async with asyncio.timeout(5):
        while len(world.pipeline.exchanges) < SLICE:
            await asyncio.sleep(0)
    await world.post(call(request_id="other"), other)
    assert len(world.pipeline.exchanges) == SLICE + 1, "the second half of the batch waits"
    assert len((await batch).json) == 2 * SLICE
    assert len(world.pipeline.exchanges) == 2 * SLICE + 1


@pytest.mark.parametrize("number", [1, SLICE + 2])
async def test_a_bug_costs_one_request_of_a_batch_and_no_other(
    world: Any, session: dict[str, str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    begin = world.pipeline.begin

    def fail_once(exchange: Any, params: Any) -> Any:
        begun.append(exchange)
        if len(begun) == number:
            raise ZeroDivisionError
        return begin(exchange, params)

    begun: list[Any] = []
    monkeypatch.setattr(world.pipeline, "begin", fail_once)
    async with asyncio.timeout(10):
        answer = await world.post([call(request_id=each) for each in range(1, 21)], session)
    found = by_id(answer.json)
    assert [key for key in range(1, 21) if "error" in found[key]] == [number]
    assert found[number]["error"]["code"] == -32603
    assert world.downstream.gate.in_flight == 0


async def test_requests_of_a_batch_do_not_begin_once_the_session_has_ended(
    world: Any, session: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.batch.REST", 0.2)
    batch = asyncio.ensure_future(world.post([call(request_id=number) for number in range(2 * SLICE)], session))
    async with asyncio.timeout(5):
        while len(world.pipeline.exchanges) < SLICE:
            await asyncio.sleep(0)
    async with world.http.delete(world.url, headers=session) as response:
        assert response.status == 204
    found = by_id((await batch).json)
    assert [found[number]["error"]["code"] for number in range(SLICE, 2 * SLICE)] == [-31006] * SLICE
    assert len(world.pipeline.exchanges) == SLICE


async def test_initialize_is_never_in_a_batch(world: Any, session: dict[str, str], helpers: Any) -> None:
    for headers in (session, BOTH):
        answer = await world.post([helpers.initialize(version=VERSION)], headers)
        assert answer.status == 400
    assert len(world.downstream.sessions) == 1


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2025-11-25"])
async def test_other_revisions_have_no_batches(world: Any, version: str) -> None:
    session = {**await world.initialize(version=version), **BOTH}
    answer = await world.post([ping(1)], session)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
    assert VERSION in answer.json["error"]["message"]
    assert version in answer.json["error"]["message"]


async def test_modern_agents_have_no_batches(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("tools/list")
    answer = await world.post([body], headers)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
    assert "id" not in answer.json


async def test_a_batch_needs_a_session_of_its_sender(world: Any, session: dict[str, str]) -> None:
    assert (await world.post([ping(1)])).status == 400
    assert (await world.post([ping(1)], {"Mcp-Session-Id": "gone"})).status == 404


async def test_a_repeated_id_is_answered_by_an_error(world: Any, session: dict[str, str]) -> None:
    posting = asyncio.ensure_future(world.post([call("nap", 1), call(request_id=1)], session))
    await world.pipeline.started.wait()
    world.pipeline.released.set()
    answers = (await posting).json
    assert sorted("error" in answer for answer in answers) == [False, True]


async def test_a_batch_above_the_limit_of_calls_is_refused_in_part(start: Any) -> None:
    world = await start(limits={"in_flight": 2})
    session = {**await world.initialize(version=VERSION), **BOTH}
    posting = asyncio.ensure_future(world.post([call("nap", number) for number in range(4)], session))
    await world.pipeline.started.wait()
    world.pipeline.released.set()
    answers = by_id((await posting).json)
    assert [number for number in answers if "error" in answers[number]] == [2, 3]
    assert world.downstream.gate.in_flight == 0


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"[]", True), (b" \r\n\t[", True), (b"{}", False), (b"", False), (b'"["', False), (b"\xa0[", False)],
)
def test_what_is_an_array(data: bytes, found: bool) -> None:
    assert is_batch(data) is found


def test_a_batch_before_initialize_is_refused() -> None:
    with pytest.raises(RpcError, match="no revision is negotiated"):
        decode_batch(b"[]", None)


def test_a_long_array_of_anything_else_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    agent = Agent.__new__(Agent)
    object.__setattr__(agent, "protocol_version", VERSION)
    for member in (b"1", b"{}", b"[]", b'{"jsonrpc":"2.0"}'):
        data = b"[" + b",".join([member] * (1_000_000 // (len(member) + 1))) + b"]"
        tracemalloc.start()
        with pytest.raises(RpcError):
            decode_batch(data, agent)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * len(data), member
