"""HTTP+SSE of 2024-11-05: the stream names the address for messages, and everything comes over the stream."""

import asyncio
import json
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import pytest

from gateway_core.downstream.streams.stream import Keep


class Stream:
    def __init__(self, world: Any, response: aiohttp.ClientResponse) -> None:
        self.world = world
        self.response = response
        self.path = ""

    async def event(self) -> tuple[str, str]:
        name = ""
        async with asyncio.timeout(5):
            while True:
                line = (await self.response.content.readline()).decode()
                assert line, "the stream ended"
                if line.startswith("event: "):
                    name = line[7:].strip()
                elif line.startswith("data: "):
                    return name, line[6:].strip()

    async def message(self) -> Any:
        name, data = await self.event()
        assert name == "message"
        return json.loads(data)

    async def send(self, body: Any) -> Any:
        return await self.world.post(body, path=self.path)

    async def ask(self, body: Any) -> Any:
        answer = await self.send(body)
        assert answer.status == 202
        return await self.message()


@pytest.fixture
async def open_stream(sse_world: Any) -> Any:
    opened: list[Stream] = []

    async def begin() -> Stream:
        response = await sse_world.http.get(sse_world.base + "/sse")
        assert response.status == 200
        stream = Stream(sse_world, response)
        name, endpoint = await stream.event()
        assert name == "endpoint"
        stream.path = urljoin("/sse", endpoint)
        opened.append(stream)
        return stream

    yield begin
    for stream in opened:
        stream.response.close()


def call(name: str, request_id: Any = 1, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments, "_meta": {"progressToken": 5}}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}


async def test_a_conversation_over_the_stream(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    assert stream.path.startswith("/messages?session_id=")
    hello = await stream.ask(helpers.initialize(version="2024-11-05"))
    assert hello["result"]["protocolVersion"] == "2024-11-05"
    assert (await stream.send({"jsonrpc": "2.0", "method": "notifications/initialized"})).status == 202
    assert (await stream.send(call("progress"))).status == 202
    messages = [await stream.message() for _ in range(4)]
    assert [message["params"]["progress"] for message in messages[:3]] == [1, 2, 3]
    assert messages[3]["id"] == 1
    assert stream.world.pipeline.exchanges[0].agent.session_id in stream.path
    stream.world.catalog.change("prompts")
    assert (await stream.message())["method"] == "notifications/prompts/list_changed"


@pytest.mark.parametrize("path", ["/sse", "/sse/", "/sse?key=1"])
@pytest.mark.parametrize("prefix", ["", "/base", "/a/b"])
async def test_the_address_for_messages_is_below_the_base_path_of_a_proxy(
    sse_world: Any, helpers: Any, path: str, prefix: str
) -> None:
    """A proxy serves the gateway under `prefix` and removes that from the path."""
    async with sse_world.http.get(sse_world.base + path) as response:
        stream = Stream(sse_world, response)
        _, endpoint = await stream.event()
        seen = urlsplit(urljoin(f"https://proxy.example{prefix}{path}", endpoint))
        assert (seen.scheme, seen.netloc, seen.path) == ("https", "proxy.example", f"{prefix}/messages")
        stream.path = f"{seen.path.removeprefix(prefix)}?{seen.query}"
        assert "result" in await stream.ask(helpers.initialize())


async def test_a_slash_at_the_end_makes_no_difference(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    stream.path = stream.path.replace("/messages?", "/messages/?")
    assert "result" in await stream.ask(helpers.initialize())


async def test_a_batch_is_answered_message_by_message(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize(version="2025-03-26"))
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await stream.send([notification, call("echo", 1), call("echo", 2)])).status == 202
    assert {(await stream.message())["id"] for _ in range(2)} == {1, 2}
    assert (await stream.send([call("echo"), {}])).status == 400


async def test_batches_of_other_revisions_are_refused(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    assert (await stream.send([call("echo")])).status == 400
    await stream.ask(helpers.initialize(version="2024-11-05"))
    assert (await stream.send([call("echo")])).status == 400


async def test_before_initialize_only_ping_is_answered(open_stream: Any) -> None:
    stream = await open_stream()
    assert (await stream.ask({"jsonrpc": "2.0", "id": 1, "method": "ping"}))["result"] == {}
    assert (await stream.ask(call("echo")))["error"]["code"] == -32600
    await stream.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
    stream.world.catalog.change("tools")
    assert (await stream.ask({"jsonrpc": "2.0", "id": 2, "method": "ping"}))["id"] == 2


async def test_requests_during_a_restart_are_refused_on_the_stream(open_stream: Any, helpers: Any) -> None:
    """The stream ends with this process, so the next one could not answer them."""
    stream, other = await open_stream(), await open_stream()
    await stream.ask(helpers.initialize())
    stream.world.downstream.gate.close(defer=True)
    subscribe = {"jsonrpc": "2.0", "id": 2, "method": "resources/subscribe", "params": {"uri": "x:y"}}
    for answer in (
        await stream.ask(call("echo")),
        await stream.ask(subscribe),
        await other.ask(helpers.initialize()),
    ):
        assert answer["error"]["code"] == -31005
        assert "restarting" in answer["error"]["message"]


async def test_initialize_is_answered_once(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    assert (await stream.ask(helpers.initialize()))["error"]["code"] == -32600


async def test_modern_requests_are_not_served_here(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    assert (await stream.ask(helpers.modern("server/discover")[1]))["error"]["code"] == -32601


async def test_a_question_comes_over_the_stream_and_its_answer_by_post(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    question = await stream.ask(call("ask", "q"))
    assert question["method"] == "elicitation/create"
    result = await stream.ask({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
    assert result["id"] == "q"


async def test_a_cancelled_request_is_not_answered(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    await stream.send(call("sleep", 7))
    await stream.world.pipeline.started.wait()
    await stream.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}})
    assert (await stream.ask({"jsonrpc": "2.0", "id": 8, "method": "ping"}))["id"] == 8
    assert stream.world.pipeline.cancelled.is_set()


async def test_the_end_of_the_stream_ends_the_session(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    await stream.send(call("sleep"))
    await stream.world.pipeline.started.wait()
    stream.response.close()
    async with asyncio.timeout(2):
        await stream.world.pipeline.cancelled.wait()
        while not stream.world.ended:
            await asyncio.sleep(0.01)
    assert (await stream.send(call("echo"))).status == 404
    assert len(stream.world.downstream.sessions) == 0


async def test_a_session_that_an_operator_ends_takes_no_message_and_ends_once(
    open_stream: Any, sse_world: Any, helpers: Any
) -> None:
    stream = await open_stream()
    assert "result" in await stream.ask(helpers.initialize())
    (session,) = sse_world.downstream.sessions
    session.mailbox.put(b'"%s"' % (b"x" * 16 * 1024 * 1024), Keep.ALWAYS)
    assert sse_world.downstream.sessions.end_by_key(session.record.key)
    assert (await stream.send(call("echo"))).status == 404
    assert session.record.streams == 1, "its agent does not read the rest of the stream"
    stream.response.close()
    async with asyncio.timeout(10):
        while session.record.streams:
            await asyncio.sleep(0.01)
    await sse_world.downstream.sessions.wait_closed(5.0)
    assert sse_world.counted == [True, False]
    assert sse_world.ended == [session.record.id]


async def test_messages_need_the_session_of_an_open_stream(sse_world: Any) -> None:
    assert (await sse_world.post(call("echo"), path="/messages")).status == 400
    assert (await sse_world.post(call("echo"), path="/messages?session_id=x")).status == 404
    session = await sse_world.initialize()
    assert (await sse_world.post(call("echo"), path=f"/messages?session_id={session['Mcp-Session-Id']}")).status == 404


async def test_the_session_of_a_stream_is_none_at_mcp(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    headers = {"Mcp-Session-Id": stream.path.partition("=")[2]}
    assert (await stream.world.post(call("echo"), headers)).status == 404


async def test_strangers_cannot_speak_into_a_stream(open_stream: Any) -> None:
    stream = await open_stream()
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        aiohttp.ClientSession(connector=connector) as stranger,
        stranger.post(stream.world.base + stream.path, json=call("echo")) as response,
    ):
        assert response.status == 404


async def test_malformed_messages_are_refused_by_their_post(open_stream: Any) -> None:
    stream = await open_stream()
    assert (await stream.send(b"{")).status == 400
    assert (await stream.send(b"[]")).status == 400


async def test_methods_and_mcp_next_to_it(sse_world: Any) -> None:
    for method, path in [("POST", "/sse"), ("GET", "/messages"), ("DELETE", "/messages")]:
        async with sse_world.http.request(method, sse_world.base + path) as response:
            assert response.status == 405
    await sse_world.initialize()


async def test_an_agent_that_reads_nothing_may_not_go_on_sending(
    open_stream: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.sse.MAX_UNREAD", 0)
    stream = await open_stream()
    assert (await stream.send(helpers.initialize())).status == 503


async def test_streams_end_when_the_gateway_stops(open_stream: Any) -> None:
    stream = await open_stream()
    await stream.world.server.close(1)
    assert await asyncio.wait_for(stream.response.content.read(), 2) in {b"", b"\n"}


async def test_while_stopping_no_stream_begins_and_those_open_are_told_so(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    stream.world.server.stop_accepting()
    async with stream.world.http.get(stream.world.base + "/sse") as refused:
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == -31005
    assert (await stream.ask(call("echo")))["error"]["code"] == -31005
    assert "result" in await stream.ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})


async def test_a_message_whose_stream_ends_while_it_is_read_reaches_no_agent(open_stream: Any, helpers: Any) -> None:
    stream = await open_stream()
    await stream.ask(helpers.initialize())
    body = json.dumps(call("echo")).encode()
    head = f"POST {stream.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", stream.world.server.port)
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
    await asyncio.sleep(0.1)
    stream.response.close()
    async with asyncio.timeout(2):
        while not stream.world.ended:
            await asyncio.sleep(0.01)
        writer.write(body[5:])
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await writer.wait_closed()
    assert not stream.world.pipeline.exchanges
