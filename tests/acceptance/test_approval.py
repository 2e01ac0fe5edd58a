"""A person approves calls: `security_approval` in real gateways, the official SDK's clients on every transport."""

import asyncio
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.sse import sse_client

from tests.ports import free_port

from .conftest import RAD

TOML = """
[mcp.proxy]
enable = true
port = {port}
transport = "sse"
question_timeout = %s

[[mcp.proxy.upstreams]]
name = "server"
transport = "http"
url = "%s"

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = 60
burst = 60
%s
[[mcp.proxy.plugins]]
name = "security_approval"
always = ["server:record"]
remember = %s
"""
POLICY = """
[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
tools = ["record"]
when = 'arguments.call_id != "free"'
then = "ask"
reason = "records are for ever"

[[mcp.proxy.plugins.rules]]
then = "allow"
"""
TRANSPORTS = ["http-legacy", "http-modern", "sse-legacy", "stdio-legacy", "stdio-modern"]
MODES = {"legacy": "legacy", "modern": "2026-07-28"}
IDS = map("call{}".format, itertools.count())


class User:
    """A user who does the same with every question."""

    def __init__(self, action: str | None, plugin: str = "security_approval") -> None:
        """`action`: None to leave questions unanswered. `plugin`: the one that asks."""
        self.action = action
        self.plugin = plugin
        self.asked: list[str] = []

    async def __call__(self, context: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params.message)
        assert params.model_dump(by_alias=True)["_meta"]["dev.radium.gateway/plugin"] == self.plugin
        if self.action is None:
            await asyncio.Event().wait()
        content = {} if self.action == "accept" else None
        return types.ElicitResult(action=self.action, content=content)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def server(shared_recorder: Any) -> Any:
    return shared_recorder("server")


@pytest.fixture
def executed(server: Any) -> Callable[[], list[str]]:
    """Ids of the calls that the server has begun to execute in this test."""
    before = len(server.begun())
    return lambda: list(server.begun()[before:])


@pytest.fixture(scope="module")
def gateway_with(shared_gateway: Any) -> Any:
    """`gateway_with(toml)`: one gateway for all tests and agents that use these settings."""
    return functools.cache(shared_gateway)


@pytest.fixture(params=TRANSPORTS)
def connect(request: pytest.FixtureRequest, gateway_with: Any, server: Any, tmp_path: Path) -> Callable[..., Client]:
    """`connect(user)`: a client of a gateway with `question_timeout` and `remember`, which knows it by its own name."""
    transport, _, era = request.param.partition("-")

    def client(user: User | None, timeout: float = 300, remember: str = '"no"', before: str = "") -> Client:
        toml = TOML % (timeout, server.url, before, remember)
        if transport == "stdio":
            config = tmp_path / "stdio" / ".radium" / "mcp-proxy.toml"
            config.parent.mkdir(parents=True)
            config.write_text(toml.replace("{port}", str(free_port())))
            arguments = ["mcp", "proxy", "start", "--stdio", "--config", str(config)]
            target: Any = StdioServerParameters(command=str(RAD), args=arguments)
        else:
            running = gateway_with(toml)
            target = running.url if transport == "http" else sse_client(f"http://127.0.0.1:{running.port}/sse")
        return Client(
            target,
            mode=MODES[era],
            read_timeout_seconds=30,
            elicitation_callback=user,
            client_info=types.Implementation(name=next(IDS), version="1"),
        )

    client.era = era  # type: ignore[attr-defined]
    return client


async def test_lists_ask_nothing_and_an_approved_call_is_executed_once(connect: Any, executed: Any) -> None:
    user, name = User("accept"), next(IDS)
    async with connect(user) as client:
        assert "record" in [tool.name for tool in (await client.list_tools()).tools]
        assert user.asked == []
        result = await client.call_tool("record", {"call_id": name})
        assert not result.is_error, result
    assert executed() == [name]
    assert len(user.asked) == 1
    assert "Server: server\nTool: record\n" in user.asked[0]
    assert f'call_id: "{name}"' in user.asked[0]


async def test_a_call_that_a_rule_and_another_plugin_ask_about_is_asked_about_once(connect: Any, executed: Any) -> None:
    user, name = User("accept", plugin="security_policy"), next(IDS)
    async with connect(user, before=POLICY) as client:
        result = await client.call_tool("record", {"call_id": name})
        assert not result.is_error, result
        assert "record" in [tool.name for tool in (await client.list_tools()).tools]
        user.action = "decline"
        with pytest.raises(MCPError, match="record was not called: the user declined it"):
            await client.call_tool("record", {"call_id": next(IDS)})
    assert executed() == [name]
    assert len(user.asked) == 2
    assert "Reason: records are for ever\nServer: server\nTool: record\n" in user.asked[0]


async def test_a_declined_call_is_not_executed_and_asked_about_again(connect: Any, executed: Any) -> None:
    user = User("decline")
    async with connect(user, remember="600") as client:
        for action in ("decline", "decline", "cancel", "cancel"):
            user.action = action
            with pytest.raises(MCPError, match="record was not called: the user") as refused:
                await client.call_tool("record", {"call_id": next(IDS)})
            assert refused.value.error.code == -31003
    assert executed() == []
    assert len(user.asked) == 4


async def test_a_question_that_lapses_refuses_the_call(connect: Any, executed: Any) -> None:
    user, name = User(None), next(IDS)
    async with connect(user, timeout=1) as client:
        if connect.era == "legacy":
            with pytest.raises(MCPError, match="no answer within 1 s"):
                await client.call_tool("record", {"call_id": name})
        else:
            asked = await client.session.call_tool("record", {"call_id": name}, allow_input_required=True)
            await asyncio.sleep(1.2)
            with pytest.raises(MCPError, match="requestState is not valid") as refused:
                await answered(client, asked, {"call_id": name})
            assert refused.value.error.code == -32602
    assert executed() == []


async def answered(client: Client, asked: Any, arguments: dict[str, Any]) -> Any:
    """Send a call again with the user's approval."""
    assert isinstance(asked, types.InputRequiredResult), asked
    accepted = types.ElicitResult(action="accept", content={})
    responses = dict.fromkeys(asked.input_requests or {}, accepted)
    return await client.call_tool("record", arguments, input_responses=responses, request_state=asked.request_state)


@pytest.mark.parametrize("connect", ["http-modern", "stdio-modern"], indirect=True)
async def test_an_approval_counts_for_its_arguments_and_once(connect: Any, executed: Any) -> None:
    """A legacy agent sends its call once, and its answer to the question has no arguments."""
    one, other = next(IDS), next(IDS)
    async with connect(User("decline")) as client:
        asked = await client.session.call_tool("record", {"call_id": one}, allow_input_required=True)
        for attempt in ({"call_id": other}, {"call_id": one, "more": 1}, {}):
            with pytest.raises(MCPError, match="requestState is not valid"):
                await answered(client, asked, attempt)
        assert not (await answered(client, asked, {"call_id": one})).is_error
        with pytest.raises(MCPError, match="requestState is not valid"):
            await answered(client, asked, {"call_id": one})
    assert executed() == [one]


async def test_an_approval_is_remembered_where_the_file_says_so(connect: Any, executed: Any) -> None:
    user = User("accept")
    async with connect(user, remember="600") as client:
        for _ in range(3):
            assert not (await client.call_tool("record", {"call_id": next(IDS)})).is_error
    assert len(user.asked) == 1
    assert len(executed()) == 3


async def test_a_client_without_elicitation_is_never_asked_and_refused(connect: Any, executed: Any) -> None:
    async with connect(None) as client:
        with pytest.raises(MCPError, match="did not declare the capability elicitation") as refused:
            await client.call_tool("record", {"call_id": next(IDS)})
    assert refused.value.error.data["requiredCapabilities"] == {"elicitation": {"form": {}}}
    assert refused.value.error.code == (-31003 if connect.era == "legacy" else -32021)
    assert executed() == []
