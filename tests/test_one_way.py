"""Every call takes one way: a check that is put into the pipeline once judges all, however they come and end."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.sse import sse_client

import gateway_core.hooks.loader
from gateway_core import Call, hookimpl
from gateway_core.api import CallResult
from gateway_core.config import Config, ProxyConfig, UpstreamConfig
from gateway_core.errors import REJECTED, RpcError
from gateway_core.gateway import Gateway
from gateway_core.hooks import LoadedPlugin
from gateway_core.pipeline.delivery import Delivery

TESTS = Path(__file__).parent
SERVERS = {"reflector": ["servers/reflector.py"], "asker": ["pipeline/input_required/asker.py", "--http"]}
MODERN = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Check:
    """The check: it remembers what it saw, and refuses everything once it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.refuses = False

    def __call__(self, call: Delivery) -> None:
        name = json.loads(bytes(call.members["name"])) if "name" in call.members else ""
        self.seen.append((call.exchange.method, name))
        if self.refuses:
            raise RpcError.of_gateway(REJECTED, "the check says no")


class Slow:
    """A plugin whose hook is asynchronous."""

    def __init__(self) -> None:
        self.ran = 0

    @hookimpl
    async def before_call(self, call: Call) -> None:
        await asyncio.sleep(0.01)
        self.ran += 1


class World:
    """A gateway with the check in its pipeline."""

    def __init__(self, gateway: Gateway, check: Check, slow: Slow) -> None:
        self.gateway = gateway
        self.check = check
        self.slow = slow

    @asynccontextmanager
    async def client(self, mode: str, over: Any = None) -> AsyncIterator[Client]:
        async def elicit(context: Any, params: Any) -> types.ElicitResult:
            return types.ElicitResult(action="accept", content={"name": "ann"})

        server = f"{self.gateway.address}/mcp" if over is None else over
        async with Client(server, mode=mode, elicitation_callback=elicit, read_timeout_seconds=20) as client:
            self.check.seen.clear()  # what a client asks by itself when it connects
            yield client


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """The URLs of the two servers."""
    children = {
        name: subprocess.Popen([sys.executable, str(TESTS / argv[0]), *argv[1:]], stdout=subprocess.PIPE, text=True)
        for name, argv in SERVERS.items()
    }
    found = {}
    for name, child in children.items():
        assert child.stdout is not None
        told = child.stdout.readline().strip()
        found[name] = told if told.startswith("http") else f"http://127.0.0.1:{told}/mcp"
    yield found
    for child in children.values():
        child.kill()
        child.communicate()


@pytest.fixture
async def world(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    check, slow, serve = Check(), Slow(), Delivery._serve

    async def checked(call: Delivery) -> CallResult:
        check(call)
        return await serve(call)

    monkeypatch.setattr(Delivery, "_serve", checked)
    way = request.node.callspec.params["way"]
    if way is over_an_asynchronous_hook:
        own = LoadedPlugin("slow", slow, "1", "d", (), "reject", frozenset({"tools/call"}))
        real = gateway_core.hooks.loader.load
        monkeypatch.setattr(gateway_core.hooks.loader, "load", lambda *args, **kw: (own, *real(*args, **kw)))
    timeout = 1 if way is timed_out else 20
    upstreams = tuple(
        UpstreamConfig(name=name, transport="http", url=url, timeout=timeout) for name, url in urls.items()
    )
    proxy = ProxyConfig(enable=True, upstreams=upstreams, transport="sse").model_copy(update={"port": 0})
    gateway = Gateway(Config(None, proxy))
    await gateway.start()
    try:
        await gateway.wait_first_discovery(20)
        yield World(gateway, check, slow)
    finally:
        await gateway.stop()


def text(result: Any) -> str:
    return str(result.content[0].text)


async def modern(world: World) -> str:
    async with world.client(MODERN) as client:
        return text(await client.call_tool("add", {"a": 1, "b": 2}))


async def legacy(world: World) -> str:
    async with world.client("legacy") as client:
        return text(await client.call_tool("add", {"a": 1, "b": 2}))


async def over_an_asynchronous_hook(world: World) -> str:
    async with world.client(MODERN) as client:
        answer = text(await client.call_tool("add", {"a": 1, "b": 2}))
    assert world.slow.ran == 1
    return answer


async def with_a_question(world: World) -> str:
    async with world.client("legacy") as client:
        return text(await client.call_tool("greet", {"who": "bob"}))


async def cancelled(world: World) -> str:
    params = {"name": "sleep", "arguments": {"seconds": 30}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "sleep"}
    async with aiohttp.ClientSession() as http:

        async def call() -> str:
            async with http.post(f"{world.gateway.address}/mcp", json=message, headers=headers) as response:
                return await response.text()

        calling = asyncio.create_task(call())
        async with asyncio.timeout(10):
            while ("tools/call", "sleep") not in world.check.seen:
                await asyncio.sleep(0.01)
            if world.check.refuses:
                raise ValueError(await calling)
            calling.cancel()  # closes the connection, which cancels the call of a modern agent
            while world.gateway.pipeline.in_flight:
                await asyncio.sleep(0.01)
    return "cancelled"


async def timed_out(world: World) -> str:
    async with world.client(MODERN) as client:
        return text(await client.call_tool("sleep", {"seconds": 30}))


async def over_sse(world: World) -> str:
    async with world.client("legacy", sse_client(f"{world.gateway.address}/sse")) as client:
        return text(await client.call_tool("add", {"a": 1, "b": 2}))


async def over_stdio(world: World) -> str:
    (stdin, to), (answers, stdout) = os.pipe(), os.pipe()
    serving = asyncio.create_task(world.gateway.downstream.stdio_server(stdin, stdout).run())
    params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": META}
    os.write(to, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode() + b"\n")
    answer = json.loads(await asyncio.to_thread(os.read, answers, 1 << 16))
    os.close(to)
    await asyncio.wait_for(serving, 10)
    for descriptor in (stdin, answers, stdout):
        os.close(descriptor)
    if "error" in answer:
        raise ValueError(answer["error"]["message"])
    return str(answer["result"]["content"][0]["text"])


async def prompt(world: World) -> str:
    async with world.client(MODERN) as client:
        found = await client.get_prompt("greet", {"name": "Ada"})
        return str(found.messages[0].content.text)


async def listing(world: World) -> str:
    async with world.client("legacy") as client:
        tools = (await client.list_tools()).tools
        return "listed" if {"add", "sleep"} <= {tool.name for tool in tools} else "incomplete"


WAYS: list[Any] = [
    pytest.param(modern, ("tools/call", "add"), "3", id="modern"),
    pytest.param(legacy, ("tools/call", "add"), "3", id="legacy"),
    pytest.param(over_an_asynchronous_hook, ("tools/call", "add"), "3", id="asynchronous-hook"),
    pytest.param(with_a_question, ("tools/call", "greet"), "bob: ann", id="question"),
    pytest.param(cancelled, ("tools/call", "sleep"), "cancelled", id="cancelled"),
    pytest.param(timed_out, ("tools/call", "sleep"), "Outcome unknown", id="timed-out"),
    pytest.param(over_sse, ("tools/call", "add"), "3", id="sse"),
    pytest.param(over_stdio, ("tools/call", "add"), "3", id="stdio"),
    pytest.param(prompt, ("prompts/get", "greet"), "Greet Ada", id="prompt"),
    pytest.param(listing, ("tools/list", ""), "listed", id="list"),
]


@pytest.mark.parametrize(("way", "call", "answer"), WAYS)
async def test_a_check_in_the_pipeline_sees_every_call(
    world: World, way: Callable[[World], Awaitable[str]], call: tuple[str, str], answer: str
) -> None:
    assert (await way(world)).startswith(answer)
    assert call in world.check.seen


@pytest.mark.parametrize(("way", "call", "answer"), [it for it in WAYS if it.id != "asynchronous-hook"])
async def test_a_check_in_the_pipeline_stops_every_call(
    world: World, way: Callable[[World], Awaitable[str]], call: tuple[str, str], answer: str
) -> None:
    world.check.refuses = True
    problem: BaseException | None = None
    try:
        await way(world)
    except Exception as error:
        problem = error
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    assert "the check says no" in str(problem)
    assert call in world.check.seen
