"""The official SDK's clients, in both eras and over every transport, against the real server."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPDeprecationWarning

CHILD = Path(__file__).with_name("stdio_child.py")


@pytest.fixture(params=["http-legacy", "http-auto", "http-modern", "sse"])
def connect(request: pytest.FixtureRequest, sse_world: Any) -> Any:
    transport, _, mode = request.param.partition("-")
    mode = {"": "legacy", "modern": "2026-07-28"}.get(mode, mode)
    server: Any = {
        "http": sse_world.url,
        "sse": sse_client(f"{sse_world.base}/sse"),
    }[transport]

    def client(**options: Any) -> Client:
        return Client(server, mode=mode, read_timeout_seconds=20, **options)

    client.legacy = mode == "legacy"  # type: ignore[attr-defined]
    return client


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_client_finds_out_what_is_there_and_calls_it(connect: Any) -> None:
    async with connect() as client:
        assert client.protocol_version == ("2025-11-25" if connect.legacy else "2026-07-28")
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("echo", {"a": "ä\n\u2028"})
        assert result.content[0].text == '{"a": "\\u00e4\\n\\u2028"}'


async def test_identity_is_that_of_the_era(connect: Any) -> None:
    async with connect() as client:
        if client.instructions is not None:  # a pinned modern client never asks
            assert client.instructions == ("hello legacy" if connect.legacy else "hello modern")


async def test_progress_arrives_in_order_and_before_the_result(connect: Any) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with connect() as client:
        result = await client.call_tool("progress", {"steps": 5, "slow": True}, progress_callback=on_progress)
    assert result.content[0].text == "done"
    assert seen == [1, 2, 3, 4, 5]


async def test_calls_run_at_once_and_keep_their_answers_apart(connect: Any) -> None:
    async with connect() as client:
        results = await asyncio.gather(*(client.call_tool("echo", {"n": n}) for n in range(30)))
    assert [result.content[0].text for result in results] == [f'{{"n": {n}}}' for n in range(30)]


async def test_errors_of_the_pipeline_reach_the_client(connect: Any) -> None:
    async with connect() as client:
        with pytest.raises(MCPError) as caught:
            await client.call_tool("refuse", {})
        assert caught.value.error.code == -31003
        with pytest.raises(MCPError) as caught:
            await client.call_tool("nonsense", {})
        assert caught.value.error.code == -32602
        assert (await client.call_tool("echo", {})).content[0].text == "{}"


async def test_a_legacy_client_answers_questions_in_the_middle_of_a_call(connect: Any) -> None:
    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    async with connect(elicitation_callback=elicit) as client:
        if connect.legacy:
            result = await client.call_tool("ask", {})
            assert '"Ada"' in result.content[0].text
        else:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("ask", {})
            assert caught.value.error.code == -32601


async def test_a_legacy_client_pings(connect: Any) -> None:
    async with connect() as client:
        if connect.legacy:
            with pytest.warns(MCPDeprecationWarning):
                await client.send_ping()


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_legacy_client_is_told_that_lists_changed(sse_world: Any, transport: str) -> None:
    told = asyncio.Event()

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            told.set()

    server: Any = sse_world.url if transport == "http" else sse_client(f"{sse_world.base}/sse")
    async with Client(server, mode="legacy", message_handler=on_message) as client:
        await client.list_tools()
        await eventually(lambda: any(session.record.streams for session in sse_world.downstream.sessions))
        sse_world.catalog.change("tools")
        async with asyncio.timeout(5):
            await told.wait()


async def test_a_modern_client_listens_until_the_gateway_says_that_it_ends(world: Any) -> None:
    async with (
        Client(world.url, mode="auto") as client,
        client.listen(tools_list_changed=True, resource_subscriptions=["a:b"]) as subscription,
    ):
        assert subscription.honored.tools_list_changed
        assert not subscription.honored.resource_subscriptions
        world.catalog.change("prompts")
        world.catalog.change("tools")
        events = aiter(subscription)
        async with asyncio.timeout(5):
            assert type(await anext(events)).__name__ == "ToolsListChanged"
            closing = asyncio.ensure_future(world.server.close(1.0))
            with pytest.raises(StopAsyncIteration):  # a graceful end, no lost subscription
                await anext(events)
        await closing


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_is_served_over_stdio(mode: Any) -> None:
    seen: list[float] = []
    changed = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async def on_message(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"name": "Ada"})

    child = StdioServerParameters(command=sys.executable, args=[str(CHILD)])
    async with Client(
        child, mode=mode, read_timeout_seconds=20, message_handler=on_message, elicitation_callback=elicit
    ) as client:
        assert client.instructions == ("hello legacy" if mode == "legacy" else "hello modern")
        await client.call_tool("progress", {"steps": 5, "slow": True}, progress_callback=on_progress)
        assert seen == [1, 2, 3, 4, 5]
        results = await asyncio.gather(*(client.call_tool("echo", {"n": n}) for n in range(30)))
        assert [result.content[0].text for result in results] == [f'{{"n": {n}}}' for n in range(30)]
        with pytest.raises(MCPError) as caught:
            await client.call_tool("refuse", {})
        assert caught.value.error.code == -31003
        with pytest.raises(TimeoutError):  # which makes the client cancel
            async with asyncio.timeout(0.2):
                await client.call_tool("sleep", {})
        if mode == "legacy":
            assert '"Ada"' in (await client.call_tool("ask", {})).content[0].text
            async with asyncio.timeout(5):
                await changed.wait()
        else:
            async with asyncio.timeout(5), client.listen(tools_list_changed=True) as subscription:
                assert type(await anext(aiter(subscription))).__name__ == "ToolsListChanged"
        assert (await client.call_tool("echo", {})).content[0].text == "{}"


@pytest.fixture
async def base_path(sse_world: Any) -> AsyncIterator[str]:
    """The URL of a proxy that serves the gateway below a base path, which it removes from requests."""

    async def forward(request: web.Request) -> web.StreamResponse:
        url = sse_world.base + request.raw_path.removeprefix("/some/base")
        headers = {name: value for name, value in request.headers.items() if name not in {"Host", "Content-Length"}}
        async with sse_world.http.request(request.method, url, headers=headers, data=await request.read()) as found:
            response = web.StreamResponse(status=found.status)
            for name in ("Content-Type", "Mcp-Session-Id"):
                if name in found.headers:
                    response.headers[name] = found.headers[name]
            await response.prepare(request)
            async for chunk in found.content.iter_any():
                await response.write(chunk)
            return response

    app = web.Application()
    app.router.add_route("*", "/some/base{path:/.*}", forward)
    async with TestServer(app, shutdown_timeout=0) as proxy:
        yield str(proxy.make_url("/some/base"))


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse", "/sse/"])
async def test_the_clients_work_below_the_base_path_of_a_proxy(base_path: str, path: str) -> None:
    server: Any = base_path + path
    async with Client(sse_client(server) if "sse" in path else server, mode="legacy") as client:
        assert (await client.call_tool("echo", {"a": 1})).content[0].text == '{"a": 1}'


async def test_the_clients_get_the_answer_of_a_silent_call(
    connect: Any, sse_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 0.01)
    monkeypatch.setattr("gateway_core.downstream.streams.stream.KEEP_ALIVE", 0.1)
    async with connect() as client:
        asked = asyncio.ensure_future(client.call_tool("nap", {}))
        await sse_world.pipeline.started.wait()
        await asyncio.sleep(1.5)  # the stream of a silent call begins at the next poll
        sse_world.pipeline.released.set()
        assert (await asked).content[0].text == "woken"
