"""The modern era over HTTP: statuses of the admission checks, lazy streams, cancellation by disconnect, listening."""

import asyncio
import base64
import json
from typing import Any

import pytest

LIST = "tools/list"
META = "io.modelcontextprotocol/"


async def test_an_answer_without_notifications_is_plain_json(world: Any) -> None:
    answer = await world.modern("tools/call", {"name": "echo", "arguments": {"a": 1}}, "id-1")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "Mcp-Session-Id" not in answer.headers
    assert answer.json["id"] == "id-1"
    assert answer.json["result"]["content"][0]["text"] == '{"a": 1}'


async def test_the_first_notification_makes_the_answer_a_stream(world: Any) -> None:
    params = {"name": "progress", "_meta": {"progressToken": "t"}}
    answer = await world.modern("tools/call", params)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"
    *progress, result = answer.events
    assert [message["params"]["progress"] for message in progress] == [1, 2, 3]
    assert {message["params"]["progressToken"] for message in progress} == {"t"}
    assert result["id"] == 1


async def test_without_a_progress_token_nothing_is_told(world: Any) -> None:
    answer = await world.modern("tools/call", {"name": "progress"})
    assert answer.headers["Content-Type"] == "application/json"


async def test_accept_decides_the_form_of_the_answer(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("tools/call", {"name": "progress", "_meta": {"progressToken": 1}})
    only_json = await world.post(body, {**headers, "Accept": "application/json"})
    assert only_json.headers["Content-Type"] == "application/json"
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    only_stream = await world.post(body, {**headers, "Accept": "text/event-stream"})
    assert only_stream.headers["Content-Type"] == "text/event-stream"
    assert only_stream.events[0]["id"] == 1
    assert (await world.post(body, {**headers, "Accept": "text/html"})).status == 406


async def test_discover_says_what_the_gateway_is(world: Any) -> None:
    result = (await world.modern("server/discover")).json["result"]
    assert result["resultType"] == "complete"
    assert result["supportedVersions"] == ["2026-07-28"]
    assert result["capabilities"]["tools"] == {"listChanged": True}
    assert result["instructions"] == "hello modern"
    assert result["_meta"][f"{META}serverInfo"] == {"name": "gateway", "version": "1"}
    assert isinstance(result["ttlMs"], int)
    assert result["cacheScope"] in {"public", "private"}


@pytest.mark.parametrize("method", ["ping", "initialize", "logging/setLevel", "resources/subscribe", "no/such"])
async def test_a_method_that_this_era_does_not_have_is_not_found(world: Any, method: str) -> None:
    answer = await world.modern(method)
    assert answer.status == 404
    assert answer.json["error"]["code"] == -32601
    assert answer.json["id"] == 1
    assert not world.pipeline.exchanges


@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities"])
async def test_required_meta_is_not_invented(world: Any, helpers: Any, missing: str) -> None:
    headers, body = helpers.modern(LIST)
    del body["params"]["_meta"][META + missing]
    answer = await world.post(body, headers)
    assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, -32602, 1)
    assert not world.pipeline.exchanges


@pytest.mark.parametrize("params", [{}, {"_meta": {}}, {"_meta": None}, {"_meta": 5}, None])
async def test_a_modern_header_without_meta_is_refused_by_the_admission_checks(world: Any, params: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": LIST}
    if params is not None:
        body["params"] = params
    answer = await world.post(body, {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": LIST})
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize(
    "change",
    [
        {"MCP-Protocol-Version": None},
        {"MCP-Protocol-Version": "2025-11-25"},
        {"MCP-Protocol-Version": "1900-01-01"},
        {"Mcp-Method": None},
        {"Mcp-Method": "tools/list"},
        {"Mcp-Method": "TOOLS/CALL"},
        {"Mcp-Name": None},
        {"Mcp-Name": "progress"},
        {"Mcp-Name": "Echo"},
        {"Mcp-Name": "=?base64?ZWNobw?="},
        {"Mcp-Name": "=?base64?###?="},
        {"Mcp-Name": "=?BASE64?ZWNobw==?="},
        {"Mcp-Param-X": "a\x01b"},
        {"Mcp-Param-X": "naïve"},
    ],
)
async def test_headers_that_do_not_match_the_body_are_refused(world: Any, helpers: Any, change: Any) -> None:
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    headers = {name: value for name, value in {**headers, **change}.items() if value is not None}
    answer = await world.raw_post(body, [*headers.items()])
    assert b" 400 " in answer.partition(b"\r\n")[0]
    if change != {"Mcp-Param-X": "a\x01b"}:  # a control character is not even HTTP
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == -32020
    assert not world.pipeline.exchanges


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Mcp-Param-A"])
async def test_headers_given_twice_are_refused(world: Any, helpers: Any, name: str) -> None:
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    headers.setdefault("Mcp-Param-A", "1")
    answer = await world.raw_post(body, [*headers.items(), (name.lower(), headers[name])])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == -32020


async def test_names_may_come_encoded(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("resources/read", {"uri": "file:///ä"})
    headers["Mcp-Name"] = f"=?base64?{base64.b64encode('file:///ä'.encode()).decode()}?="
    await world.post(body, headers)
    assert world.pipeline.exchanges[0].method == "resources/read"


async def test_header_names_are_compared_without_case(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    answer = await world.post(body, {name.upper(): value for name, value in headers.items()})
    assert answer.status == 200


async def test_param_headers_travel_on(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    await world.post(body, {**headers, "Mcp-Param-Region": "us west", "mcp-param-b": "=?base64?AA==?=", "X-A": "1"})
    assert dict(world.pipeline.exchanges[0].headers) == {
        "mcp-param-region": "us west",
        "mcp-param-b": "=?base64?AA==?=",
    }


@pytest.mark.parametrize("version", ["1900-01-01", "2099-01-01", "2025-11-25", ""])
async def test_an_unsupported_version_is_told_the_supported_ones(world: Any, helpers: Any, version: str) -> None:
    headers, body = helpers.modern(LIST, version=version)
    answer = await world.post(body, headers)
    assert (answer.status, answer.json["error"]["code"]) == (400, -32022)
    data = answer.json["error"]["data"]
    assert data["supported"] == ["2026-07-28"]
    assert data["requested"] == version
    assert data["source"] == "gateway"


@pytest.mark.parametrize("method", [LIST, None])
async def test_an_unknown_version_in_the_header_alone_is_a_bad_request(world: Any, method: Any) -> None:
    headers = {"MCP-Protocol-Version": "1900-01-01"} | ({"Mcp-Method": method} if method else {})
    answer = await world.post({"jsonrpc": "2.0", "id": 1, "method": LIST}, headers)
    assert answer.status == 400
    assert answer.json["error"]["code"] in {-32022, -32602}


async def test_notifications_are_acknowledged_and_responses_refused(world: Any) -> None:
    headers = {"MCP-Protocol-Version": "2026-07-28"}
    notified = await world.post({"jsonrpc": "2.0", "method": "notifications/cancelled"}, headers)
    assert (notified.status, notified.body) == (202, b"")
    answered = await world.post({"jsonrpc": "2.0", "id": 1, "result": {}}, headers)
    assert answered.status == 400
    assert "id" not in answered.json
    twice = (
        b'{"jsonrpc":"2.0","method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":{"a":1,"a":2}}}}'
    )
    assert (await world.post(twice)).status == 400
    odd = await world.post({"jsonrpc": "2.0", "method": "x"}, {"MCP-Protocol-Version": "1", "Mcp-Method": "x"})
    assert odd.status == 400


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_only_post_is_allowed(world: Any, method: str) -> None:
    headers = {"MCP-Protocol-Version": "2026-07-28"}
    async with world.http.request(method, world.url, headers=headers) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST, OPTIONS"


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [({"name": "nonsense"}, 400, -32602), ({"name": "refuse"}, 200, -31003), ({"name": "bug"}, 200, -32603)],
)
async def test_errors_of_the_pipeline_have_the_status_of_their_code(
    world: Any, params: Any, status: int, code: int
) -> None:
    answer = await world.modern("tools/call", params, 7)
    assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (status, code, 7)
    assert b"secret" not in answer.body


async def test_a_session_id_is_ignored_and_not_echoed(world: Any, helpers: Any) -> None:
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    answer = await world.post(body, {**headers, "Mcp-Session-Id": "nonsense", "Last-Event-ID": "9"})
    assert answer.status == 200
    assert "Mcp-Session-Id" not in answer.headers


async def test_a_disconnect_cancels_the_call(world: Any) -> None:
    call = asyncio.ensure_future(world.modern("tools/call", {"name": "sleep"}))
    await world.pipeline.started.wait()
    call.cancel()
    async with asyncio.timeout(1):
        await world.pipeline.cancelled.wait()
        await world.downstream.gate.wait_empty(1)
    assert world.downstream.gate.in_flight == 0


async def test_closing_a_stream_cancels_the_call(world: Any, helpers: Any) -> None:
    params = {"name": "progress", "arguments": {"steps": 100000, "slow": True}, "_meta": {"progressToken": 1}}
    headers, body = helpers.modern("tools/call", params)
    async with world.http.post(world.url, json=body, headers=headers) as response:
        assert response.content_type == "text/event-stream"
        await response.content.readline()
        response.close()
    async with asyncio.timeout(1):
        await world.pipeline.cancelled.wait()


async def test_agents_are_told_apart_by_every_request(world: Any, helpers: Any) -> None:
    for name in ("one", "two"):
        meta = {f"{META}clientInfo": {"name": name, "version": "9"}}
        await world.modern("tools/call", {"name": "echo", "_meta": meta})
    found = [exchange.agent.principal for exchange in world.pipeline.exchanges]
    assert [principal.id for principal in found] == ["one@127.0.0.1", "two@127.0.0.1"]
    assert not any(principal.verified for principal in found)


@pytest.mark.parametrize(
    ("info", "identity"),
    [
        ({"name": "a\n\x00b" + "c" * 100}, "ab" + "c" * 62 + "~47780d0924780ea9@127.0.0.1"),
        ({"name": "助手"}, "unknown~e5ce5f6da7bd985e@127.0.0.1"),
        ({"name": "代理"}, "unknown~5e84ea61e8386af7@127.0.0.1"),
        ({"name": "unknown~e5ce5f6da7bd985e"}, "unknown~e5ce5f6da7bd985e~515410eccb34f5f7@127.0.0.1"),
        ({"name": "x "}, "x~2ac3e029f2ae0ed3@127.0.0.1"),
        ({"name": ""}, "unknown@127.0.0.1"),
        ({"name": 5}, "unknown@127.0.0.1"),
        ({}, "unknown@127.0.0.1"),
    ],
)
async def test_names_are_made_safe(world: Any, info: Any, identity: str) -> None:
    await world.modern("tools/call", {"name": "echo", "_meta": {f"{META}clientInfo": info}})
    assert world.pipeline.exchanges[0].agent.principal.id == identity


async def test_more_requests_than_the_limit_are_told_to_come_back(start: Any) -> None:
    world = await start(limits={"in_flight": 1})
    first = asyncio.ensure_future(world.modern("tools/call", {"name": "nap"}))
    await world.pipeline.started.wait()
    second = await world.modern("tools/call", {"name": "echo"}, 2)
    assert (second.status, second.json["error"]["code"], second.json["id"]) == (503, -31005, 2)
    assert second.headers["Retry-After"] == "1"
    assert world.downstream.gate.rejected == 1
    world.pipeline.released.set()
    assert (await first).status == 200
    assert (await world.modern("tools/call", {"name": "echo"})).status == 200


async def test_listening_acknowledges_first_and_tells_only_what_was_asked_for(world: Any, helpers: Any) -> None:
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": False,
        "resourceSubscriptions": ["a:b"],
    }
    headers, body = helpers.modern("subscriptions/listen", {"notifications": wanted}, "L")
    async with world.http.post(world.url, json=body, headers=headers) as response:
        assert response.content_type == "text/event-stream"

        async def message() -> Any:
            async with asyncio.timeout(5):
                while not (line := await response.content.readline()).startswith(b"data: "):
                    pass
            return json.loads(line[6:])

        acknowledged = await message()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["notifications"] == {"toolsListChanged": True, "promptsListChanged": True}
        world.catalog.change("resources")
        world.catalog.change("prompts")
        assert (await message())["method"] == "notifications/prompts/list_changed"
        world.catalog.change("tools")
        changed = await message()
        assert changed["method"] == "notifications/tools/list_changed"
        world.server.stop_accepting()
        closing = asyncio.ensure_future(world.server.close(0))
        ended = await message()
        assert ended["id"] == "L"
        assert ended["result"]["resultType"] == "complete"
        for said in (acknowledged["params"], changed["params"], ended["result"]):
            assert said["_meta"][f"{META}subscriptionId"] == "L"
        assert await response.content.read() == b"\n"
    await closing


@pytest.mark.parametrize("notifications", [None, 5, []])
async def test_listening_needs_a_filter(world: Any, notifications: Any) -> None:
    answer = await world.modern("subscriptions/listen", {"notifications": notifications})
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)


async def test_an_idle_listener_is_kept_alive(world: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.downstream.streams.stream.KEEP_ALIVE", 0.05)
    headers, body = helpers.modern("subscriptions/listen", {"notifications": {}})
    async with world.http.post(world.url, json=body, headers=headers) as response, asyncio.timeout(5):
        while not (line := await response.content.readline()).startswith(b":"):
            assert line, "the stream has ended"
    async with asyncio.timeout(5):
        while world.downstream.subscriptions or len(world.catalog.listeners) > 1:
            await asyncio.sleep(0.01)


async def test_while_stopping_lists_are_answered_and_nothing_else_begins(world: Any) -> None:
    await world.modern(LIST)  # leaves an idle connection, as new ones are not taken
    world.server.stop_accepting()
    for method, params in [
        ("tools/call", {"name": "echo"}),
        ("subscriptions/listen", {"notifications": {"toolsListChanged": True}}),
    ]:
        refused = await world.modern(method, params, 5)
        assert (refused.status, refused.json["error"]["code"], refused.json["id"]) == (503, -31005, 5)
        assert refused.headers["Retry-After"] == "1"
    assert world.downstream.gate.rejected == 2
    assert not world.downstream.subscriptions
    assert "result" in (await world.modern(LIST)).json
    assert "result" in (await world.modern("server/discover")).json
    assert world.downstream.gate.rejected == 2


async def test_while_stopping_later_rounds_of_calls_go_on_and_what_only_speaks_of_them_does_not(world: Any) -> None:
    await world.modern(LIST)  # leaves an idle connection, as new ones are not taken
    world.server.stop_accepting()
    for method, params in [
        ("tools/call", {"name": "echo", "arguments": {"requestState": "s"}}),
        ("tools/call", {"name": "echo", "_meta": {"requestState": "s"}}),
        ("completion/complete", {"requestState": "s"}),
    ]:
        refused = await world.modern(method, params)
        assert (refused.status, refused.json["error"]["code"]) == (503, -31005)
    assert "result" in (await world.modern("tools/call", {"name": "echo", "requestState": "s"})).json


@pytest.mark.parametrize("method", ["tools/call", "subscriptions/listen", "server/discover"])
async def test_a_log_level_is_taken_along_and_refused_if_it_is_none(world: Any, method: str) -> None:
    refused = await world.modern(method, {"name": "echo", "_meta": {f"{META}logLevel": "loud"}})
    assert (refused.status, refused.json["error"]["code"]) == (400, -32602)
    for level in ("debug", "error", "debug"):
        await world.modern("tools/call", {"name": "echo", "_meta": {f"{META}logLevel": level}})
        assert world.pipeline.exchanges[-1].log_level == level
