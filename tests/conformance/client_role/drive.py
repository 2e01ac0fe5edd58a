"""One scenario of the official suite's client role: `drive.py URL`, as the suite's `--command`.

The suite has started a server of its own at URL. This starts the gateway (`rad mcp proxy start --stdio`) with it as
the only upstream, drives the gateway with the official SDK's client as the scenario says, and stops it. What the
suite judges is the gateway's hop to URL. It says in the environment which scenario it is (`MCP_CONFORMANCE_SCENARIO`),
of which revision (`MCP_CONFORMANCE_PROTOCOL_VERSION`), and with what credentials or arguments
(`MCP_CONFORMANCE_CONTEXT`).

Exit code 0 means that the drive went as the scenario expects, results included. The suite cannot know that, so the
runner reads it, too, from the file that `CLIENT_ROLE_OUTCOME` names.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import traceback
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mcp_types as types
import tomli_w
from mcp import Client, MCPError, StdioServerParameters

RAD = str(Path(sys.executable).parent / "rad")
MODERN = "2026-07-28"
PATIENCE = 20.0
"""Seconds for one call."""
LOGIN_PATIENCE = 60.0
"""Seconds for one login, for which a process starts."""
METADATA_DOCUMENT = "https://conformance-test.local/client-metadata.json"
"""The client identifier that the suite expects where it supports metadata documents."""


@dataclass
class Drive:
    """A scenario under way."""

    scenario: str
    revision: str
    context: dict[str, Any]
    config: Path
    log: Path

    @property
    def gateway(self) -> StdioServerParameters:
        arguments = ["mcp", "proxy", "start", "--stdio", "--config", str(self.config)]
        return StdioServerParameters(command=RAD, args=arguments, env=dict(os.environ))

    def client(self, **keys: Any) -> Client:
        mode = self.revision if self.revision == MODERN else "legacy"
        return Client(self.gateway, mode=mode, read_timeout_seconds=PATIENCE, **keys)

    def logged(self, words: str) -> None:
        """Make sure that the gateway said why it refused."""
        assert words in self.log.read_text(encoding="utf-8"), f"the gateway's log does not say {words!r}"


async def lists(drive: Drive) -> None:
    """Connect and list."""
    async with drive.client() as client:
        await client.list_tools()


async def lists_one(drive: Drive) -> None:
    """Connect and list; there is a tool."""
    async with drive.client() as client:
        assert (await client.list_tools()).tools


async def add(drive: Drive) -> None:
    async with drive.client() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add_numbers"]
        assert text_of(await client.call_tool("add_numbers", {"a": 2, "b": 3})) == "The sum of 2 and 3 is 5"


async def reconnect(drive: Drive) -> None:
    """The server ends the call's stream early; the answer comes when the gateway asks for the rest."""
    async with drive.client() as client:
        result = await client.call_tool("test_reconnection", {})
        assert not result.is_error, text_of(result)


async def elicit(drive: Drive) -> None:
    """Answer a question that the server asks during a call with the defaults of its schema."""

    async def answer(context: Any, asked: types.ElicitRequestParams) -> types.ElicitResult:
        schema: dict[str, Any] = getattr(asked, "requested_schema", None) or {}
        defaults = {name: rule.get("default") for name, rule in schema.get("properties", {}).items()}
        return types.ElicitResult(action="accept", content=defaults or {"confirmed": True})

    async with drive.client(elicitation_callback=answer) as client:
        result = await client.call_tool("test_client_elicitation_defaults", {})
        assert not result.is_error, text_of(result)


async def rounds(drive: Drive) -> None:
    """Calls that need input: answered in a second round, with another call in between."""
    async with drive.client(elicitation_callback=confirm) as client:
        await client.list_tools()
        first = await client.session.call_tool("test_mrtr_echo_state", {}, allow_input_required=True)
        assert isinstance(first, types.InputRequiredResult), first
        assert text_of(await client.call_tool("test_mrtr_unrelated", {})) == "unrelated-ok"
        answers = {
            key: types.ElicitResult(action="accept", content={"confirmed": True}) for key in first.input_requests
        }
        again = await client.call_tool(
            "test_mrtr_echo_state", {}, input_responses=answers, request_state=first.request_state
        )
        assert text_of(again) == "echo-state-ok"
        assert text_of(await client.call_tool("test_mrtr_no_state", {})) == "no-state-ok"
        assert text_of(await client.call_tool("test_mrtr_no_result_type", {})) == "no-result-type-test-ok"


async def confirm(context: Any, asked: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"confirmed": True})


async def everything(drive: Drive) -> None:
    """One request of each kind, for the headers that it must carry."""
    async with drive.client() as client:
        for tool in (await client.list_tools()).tools:
            await client.call_tool(tool.name, {})
        for resource in (await client.list_resources()).resources:
            await client.read_resource(resource.uri)
        for prompt in (await client.list_prompts()).prompts:
            await client.get_prompt(prompt.name)


async def parameters(drive: Drive) -> None:
    """The calls that the suite lists, whose arguments are mirrored in headers."""
    async with drive.client() as client:
        await client.list_tools()
        for call in drive.context["toolCalls"]:
            result = await client.call_tool(call["name"], call["arguments"])
            assert not result.is_error, text_of(result)


async def call_all_listed(drive: Drive) -> None:
    """Call every tool that the gateway lists. Written by hand: the SDK's client would drop the bad ones itself."""
    gateway = await asyncio.create_subprocess_exec(
        RAD, *drive.gateway.args, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert gateway.stdin is not None
    assert gateway.stdout is not None
    meta = {
        "io.modelcontextprotocol/protocolVersion": drive.revision,
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }

    async def request(number: int, method: str, **params: Any) -> dict[str, Any]:
        assert gateway.stdin is not None
        assert gateway.stdout is not None
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}
        gateway.stdin.write(json.dumps(message).encode() + b"\n")
        answer = json.loads(await gateway.stdout.readline())
        assert answer["id"] == number, answer
        return answer["result"]

    try:
        async with asyncio.timeout(PATIENCE):
            tools = [tool["name"] for tool in (await request(1, "tools/list"))["tools"]]
            for number, name in enumerate(tools, 2):
                await request(number, "tools/call", name=name, arguments={"region": "us-west1", "value": "v"})
            assert tools == ["valid_tool"], tools
    finally:
        gateway.stdin.close()
        await gateway.wait()


async def echo_schema(drive: Drive) -> None:
    """A schema comes through unchanged: it is sent back as it was listed."""
    async with drive.client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        await client.call_tool("json_schema_echo", {"schema": tools["json_schema_2020_12_tool"].input_schema})


async def authorized(drive: Drive) -> None:
    """The upstream wants a token, and the gateway gets one."""
    async with drive.client() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["test-tool"]
        assert text_of(await client.call_tool("test-tool", {})) == "test"


async def log_in(drive: Drive) -> str:
    """Run `rad mcp proxy login`, and open the address that it prints as a browser would. Returns its error."""
    command = [RAD, "mcp", "proxy", "login", "suite", "--no-browser", "--config", str(drive.config)]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    assert child.stdout is not None
    try:
        async with asyncio.timeout(LOGIN_PATIENCE):
            if address := (await child.stdout.readline()).decode().strip():
                await asyncio.to_thread(open_address, address)
            said = (await child.communicate())[1].decode()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    sys.stderr.write(said)
    assert (child.returncode == 0) == ("error:" not in said), said
    return said.partition("error:")[2]


def open_address(address: str) -> None:
    with suppress(urllib.error.HTTPError), urllib.request.urlopen(address, timeout=PATIENCE) as page:
        page.read()


async def logged_in(drive: Drive) -> None:
    """A person logs in; then the agent uses the upstream."""
    assert not (error := await log_in(drive)), error
    await authorized(drive)


async def step_up(drive: Drive) -> None:
    """A call asks for more scopes than the login has; the person logs in again while the gateway runs."""
    assert not (error := await log_in(drive)), error
    async with drive.client() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["test-tool"]
        assert "rad mcp proxy login suite" in await refusal_of(client)
        assert not (error := await log_in(drive)), error
        assert text_of(await until_it_works(client)) == "test"


async def never_enough(drive: Drive) -> None:
    """Whatever scopes the login has, the server asks for them again: nothing is repeated in a loop."""
    assert not (error := await log_in(drive)), error
    async with drive.client() as client:
        assert not (await client.list_tools()).tools
    drive.logged("HTTP 403")


async def moved(drive: Drive) -> None:
    """The upstream changes its authorization server; the person logs in again, at the new one."""
    assert not (error := await log_in(drive)), error
    async with drive.client() as client:
        await client.list_tools()
        with suppress(MCPError):
            await client.call_tool("test-tool", {})
        assert not (error := await log_in(drive)), error
        assert text_of(await until_it_works(client)) == "test"


async def refusal_of(client: Client) -> str:
    """The message of the error that a call gets."""
    try:
        result = await client.call_tool("test-tool", {})
    except MCPError as refusal:
        return refusal.message
    raise AssertionError(f"the call came through: {text_of(result)}")


async def until_it_works(client: Client) -> types.CallToolResult:
    """The result of a call, as soon as the running gateway has noticed the new login."""
    for _ in range(int(PATIENCE * 10)):
        with suppress(MCPError):
            return await client.call_tool("test-tool", {})
        await asyncio.sleep(0.1)
    raise AssertionError("the gateway does not use the new login")


async def refused(drive: Drive, why: str) -> None:
    """What the upstream or the authorization server says is not to be trusted; there is no login."""
    error = await log_in(drive)
    assert why in error, error
    async with drive.client() as client:
        assert not (await client.list_tools()).tools
        with suppress(MCPError):
            raise AssertionError(f"the call came through: {text_of(await client.call_tool('test-tool', {}))}")
    drive.logged("rad mcp proxy login suite")


def text_of(result: types.CallToolResult) -> str:
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))


SCENARIOS: dict[str, Callable[[Drive], Awaitable[None]]] = {
    "initialize": lists,
    "tools_call": add,
    "elicitation-sep1034-client-defaults": elicit,
    "sse-retry": reconnect,
    "request-metadata": lists,
    "sep-2322-client-request-state": rounds,
    "http-standard-headers": everything,
    "http-custom-headers": parameters,
    "http-invalid-tool-headers": call_all_listed,
    "json-schema-ref-no-deref": lists_one,
    "json-schema-2020-12-preservation": echo_schema,
    "auth/client-credentials-basic": authorized,
    "auth/client-credentials-jwt": authorized,
    "auth/scope-step-up": step_up,
    "auth/scope-retry-limit": never_enough,
    "auth/authorization-server-migration": moved,
    "auth/resource-mismatch": lambda drive: refused(drive, "another resource"),
    "auth/metadata-issuer-mismatch": lambda drive: refused(drive, "another issuer"),
    "auth/iss-supported-missing": lambda drive: refused(drive, "does not name its issuer"),
    "auth/iss-wrong-issuer": lambda drive: refused(drive, "another authorization server"),
    "auth/iss-unexpected": lambda drive: refused(drive, "another authorization server"),
    "auth/iss-normalized": lambda drive: refused(drive, "another authorization server"),
}
"""All others that begin with `auth/` are `logged_in`."""


def upstream(url: str, scenario: str, context: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the suite's server, as an operator who was given these credentials would write it."""
    table: dict[str, Any] = {"name": "suite", "transport": "http", "url": url}
    if not scenario.startswith("auth/"):
        return table
    known = ("client_id", "client_secret", "signing_algorithm")
    auth = {key: context[key] for key in known if key in context}
    if "private_key_pem" in context:
        auth["private_key"] = context["private_key_pem"]
    if not scenario.startswith("auth/client-credentials"):
        auth["grant"] = "authorization_code"
    if scenario == "auth/basic-cimd":
        auth["client_metadata_url"] = METADATA_DOCUMENT
    return {**table, "auth": auth}


async def main(url: str) -> None:
    scenario = os.environ["MCP_CONFORMANCE_SCENARIO"]
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "mcp-proxy.toml", Path(folder) / "gateway.log"
        proxy = {"enable": True, "log": {"file": str(log)}, "upstreams": [upstream(url, scenario, context)]}
        config.write_text(tomli_w.dumps({"mcp": {"proxy": proxy}}), encoding="utf-8")
        config.chmod(0o600)
        drive = Drive(scenario, os.environ["MCP_CONFORMANCE_PROTOCOL_VERSION"], context, config, log)
        try:
            await SCENARIOS.get(scenario, logged_in)(drive)
        finally:
            if log.exists():
                sys.stderr.write(log.read_text(encoding="utf-8"))


if __name__ == "__main__":
    outcome = "passed"
    try:
        asyncio.run(main(sys.argv[1]))
    except Exception:
        outcome = traceback.format_exc()
        sys.stderr.write(outcome)
    if "CLIENT_ROLE_OUTCOME" in os.environ:
        Path(os.environ["CLIENT_ROLE_OUTCOME"]).write_text(outcome, encoding="utf-8")
    sys.exit(outcome != "passed")
