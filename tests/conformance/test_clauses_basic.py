"""Clauses on what every request has: 2, 21, 23, 27, 45, 51.

Sources: basic/index (Requests, Error Codes), basic/transports/streamable-http (Security Warning),
basic/patterns/cancellation (Timeouts), basic/versioning, server/tools (Security Considerations) of 2026-07-28.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from loguru import logger
from mcp import Client
from mcp_types import PromptReference, TextContent

from gateway_core import Reject, hookimpl

CLIENT_INFO = "io.modelcontextprotocol/clientInfo"
VERSION = "io.modelcontextprotocol/protocolVersion"
DEFINED = {-32700, -32600, -32601, -32602, -32603, -32020, -32021, -32022}
"""The codes that JSON-RPC and the specification define and have not withdrawn."""
RESERVED = range(-32768, -31999)


def named(name: str) -> dict[str, Any]:
    return {"_meta": {CLIENT_INFO: {"name": name, "version": "1"}}}


# -- 2: where it listens --------------------------------------------------------------------------------------------


async def test_clause_02_other_addresses_than_127_0_0_1_are_not_listened_on(stand: Any) -> None:
    host, _, port = stand.base.removeprefix("http://").rpartition(":")
    assert host == "127.0.0.1"
    # All of 127.0.0.0/8 is this machine: who listens on all addresses would answer at this one, too.
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.2", int(port))


# -- 21: codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (-32002, -32602),
        (-32042, -31002),
        (-32020, -31001),
        (-32022, -31001),
        (-32023, -32603),
        (-32099, -32603),
        (-32602, -32602),
        (-32000, -32000),
        (7, 7),
    ],
)
async def test_clause_21_modern_agents_get_no_code_that_is_not_defined(
    stand: Any, msg: Any, theirs: int, ours: int
) -> None:
    async def wire(seen: Any, send: Any) -> None:
        error = {"jsonrpc": "2.0", "id": seen.body["id"], "error": {"code": theirs, "message": "theirs"}}
        await msg.answer(send, 200, json.dumps(error).encode())

    stand.lab.wires["echo"] = wire
    answer = await stand.modern("tools/call", msg.calling("echo"))
    assert answer.code == ours
    assert "theirs" in answer.json["error"]["message"]


class Refuse:
    @hookimpl
    def before_call(self, call: Any) -> Reject | None:
        if call.name == "forever":
            raise ValueError("broken")
        return Reject("not today") if call.name == "steps" else None


async def test_clause_21_the_gateways_own_errors_say_so(start: Any, msg: Any) -> None:
    stand = await start("modern", "modern", plugins=[Refuse()])
    headers, body = msg.modern("tools/call", msg.calling("lab1:echo"))
    await stand.labs["lab1"].stop()
    session = await stand.initialize()
    answers = [
        await stand.modern("no/such/method"),
        await stand.modern("tools/call", msg.calling("no_such_tool")),
        await stand.modern("tools/list", {"cursor": "no such cursor"}),
        await stand.modern("tools/call", msg.calling("echo"), Mcp_Name="other"),
        await stand.modern("tools/list", {"_meta": {VERSION: "1900-01-01"}}, MCP_Protocol_Version="1900-01-01"),
        await stand.modern("tools/call", {**msg.calling("echo"), "requestState": "forged", "inputResponses": {}}),
        await stand.modern("tools/call", msg.calling("steps")),
        await stand.modern("tools/call", msg.calling("forever")),
        await stand.send("POST", headers, body),
        await stand.send("POST", headers, b"{oops"),
        await stand.send("POST", headers, [body]),
        await stand.legacy(session, "no/such/method"),
        await stand.legacy(session, "tools/call", msg.calling("no_such_tool")),
    ]
    assert {answer.code for answer in answers} >= {-32601, -32602, -32020, -32022, -31001, -31003, -31004, -32700}
    for answer in answers:
        assert answer.code in DEFINED or answer.code not in RESERVED, answer.body
        assert answer.json["error"]["data"]["source"] == "gateway", answer.body


# -- 23: ids --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_23_agents_may_all_choose_the_same_id(start: Any, msg: Any, era: str) -> None:
    """A hundred agents have calls in flight at once, half of them with the id 1, half of them with "1"."""
    stand = await start(era)
    session = await stand.initialize()

    async def one(number: int) -> None:
        request_id: int | str = 1 if number % 2 else "1"
        params = {**msg.calling("echo", text=f"text {number}"), **named(f"agent {number}")}
        answer = await stand.modern("tools/call", params, request_id)
        assert "result" in answer.json, answer.json
        assert answer.text == f"text {number}"
        assert (answer.json["id"], type(answer.json["id"])) == (request_id, type(request_id))

    await asyncio.gather(*(one(number) for number in range(100)))
    for _ in range(2):
        assert (await stand.legacy(session, "tools/call", msg.calling("echo", text="again"))).text == "again"
    ids: dict[str, list[Any]] = {}
    for seen in stand.lab.seen:
        if "id" in seen.body and seen.method not in ("server/discover", "initialize"):
            ids.setdefault(seen.headers.get("mcp-session-id", ""), []).append(seen.body["id"])
    assert len(stand.lab.of("tools/call")) == 102
    for used in ids.values():
        assert len(used) == len(set(used)), "not even after the answer has come"
    assert all(type(number) is int for used in ids.values() for number in used)


# -- 27, 45: limits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_clause_27_progress_buys_time_up_to_the_hard_maximum(start: Any, msg: Any, era: str) -> None:
    stand = await start(era, proxy="timeout = 1.5\nmax_timeout = 3")
    loop = asyncio.get_running_loop()
    began = loop.time()
    *progress, answer = (await stand.modern("tools/call", msg.calling("forever", "t"))).messages
    assert loop.time() - began > 2.0, "longer than the gateway waits for a silent server; the call never ends by itself"
    assert len(progress) > 5
    assert answer["result"]["isError"] is True
    assert "Outcome unknown" in answer["result"]["content"][0]["text"]
    async with asyncio.timeout(5):
        await stand.lab.cancelled.wait()


async def test_clause_45_calls_are_limited_by_agent_and_tool(start: Any, msg: Any) -> None:
    stand = await start("modern", proxy="[mcp.proxy.security]\nrate_limit_per_minute = 2")

    async def call(agent: str, tool: str = "echo") -> Any:
        return await stand.modern("tools/call", {**msg.calling(tool), **named(agent)})

    for _ in range(2):
        assert (await call("ann")).json["result"]["isError"] is False
    refused = await call("ann")
    assert refused.code == -31003
    assert refused.json["error"]["data"]["retryAfterMs"] > 0
    assert (await call("ann", "route")).json["result"]["isError"] is False
    assert (await call("ben")).json["result"]["isError"] is False
    assert len(stand.lab.of("tools/call")) == 4


async def test_clause_45_calls_are_logged_without_secrets(stand: Any, msg: Any) -> None:
    lines: list[str] = []
    number = logger.add(lambda line: lines.append(f"{line} {line.record['extra']}"), level="INFO")
    await stand.modern("tools/call", msg.calling("echo", text="password=s3cr3t place=here"))
    logger.remove(number)
    logged = "".join(lines)
    assert "request tools/call echo" in logged
    assert "place=here" in logged
    assert "s3cr3t" not in logged


async def test_clause_45_params_that_are_none_reach_no_upstream(stand: Any, msg: Any) -> None:
    for params in ({"name": "echo", "arguments": [1]}, {"name": 7}, {"arguments": {}}, {"name": "echo", "_meta": 1}):
        headers, body = msg.modern("tools/call", {k: v for k, v in params.items() if k != "_meta"})
        body["params"].update({"_meta": 1} if "_meta" in params else {})
        answer = await stand.send("POST", {k: str(v) for k, v in headers.items()}, body)
        assert answer.status == 400
        assert answer.code in (-32602, -32020)
    assert not stand.lab.of("tools/call")


# -- 51: both eras on both sides ------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["legacy", "modern"])
@pytest.mark.parametrize(("agent", "version"), [("legacy", "2025-11-25"), ("auto", "2026-07-28")])
async def test_clause_51_every_method_works_between_all_eras(start: Any, agent: Any, version: str, server: str) -> None:
    """Agent and server are the official SDK's, each of one era; `auto` asks `server/discover` and stays modern."""
    stand = await start(server)
    sent: Callable[[str], Any] = stand.lab.of
    async with Client(stand.url, mode=agent) as client:
        assert client.protocol_version == version
        assert client.server_info.name == "radium-mcp-gateway"
        assert "echo" in [tool.name for tool in (await client.list_tools()).tools]
        assert [found.uri for found in (await client.list_resources()).resources] == ["memo://lab0/today"]
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "memo://lab0/{day}/note"
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["brief"]

        called = await client.call_tool("echo", {"text": "hello"})
        assert called.content == [TextContent(type="text", text="hello")]
        assert called.structured_content == {"result": "hello"}
        for uri, text in (("memo://lab0/today", "lab0: today"), ("memo://lab0/monday/note", "lab0: monday")):
            (contents,) = (await client.read_resource(uri)).contents
            assert (str(contents.uri), contents.text) == (uri, text)
        (message,) = (await client.get_prompt("brief", {"topic": "all"})).messages
        assert message.content == TextContent(type="text", text="lab0: all")
        reference = PromptReference(type="ref/prompt", name="brief")
        assert (await client.complete(reference, {"name": "topic", "value": "a"})).completion.values == ["a!"]
    versions = {seen.headers["mcp-protocol-version"] for seen in sent("tools/call")}
    assert versions == {"2025-11-25" if server == "legacy" else "2026-07-28"}, "each upstream in its own era"
    assert bool(sent("initialize")) is (server == "legacy")


async def test_clause_51_agents_of_both_eras_are_served_at_one_address_at_once(start: Any, msg: Any) -> None:
    stand = await start("legacy", "modern")
    session = await stand.initialize()
    modern = [stand.modern("tools/call", msg.calling(f"lab{n % 2}:echo", text=str(n))) for n in range(20)]
    legacy = [stand.legacy(session, "tools/call", msg.calling(f"lab{n % 2}:echo", text=str(n)), n) for n in range(20)]
    for answers in (await asyncio.gather(*modern), await asyncio.gather(*legacy)):
        assert [answer.text for answer in answers] == [str(n) for n in range(20)]


async def test_clause_51_the_versions_that_are_offered_are_served(stand: Any) -> None:
    for version in ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"):
        session = await stand.initialize(version=version)
        assert (await stand.legacy(session, "tools/list")).status == 200
    offered = (await stand.modern("server/discover")).json["result"]["supportedVersions"]
    assert "2026-07-28" in offered
    for version in offered:
        if version >= "2026":
            assert (await stand.modern("tools/list")).status == 200
        else:
            assert await stand.initialize(version=version)
