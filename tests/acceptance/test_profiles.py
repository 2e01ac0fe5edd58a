"""Profiles, from the example in the documentation to what official clients of both eras see."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.conftest import RAD, SERVERS, Rad, rad, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"
DESK = SERVERS / "desk.py"
TOKEN = "tok-7f3a9c2e51d84b60"
KEYS = """
[[mcp.proxy.plugins]]
name = "auth_apikey"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
prefix = "always"

[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
tools = ["tickets__create_issue"]
profiles = ["support"]
then = "deny"

[[mcp.proxy.plugins.rules]]
verified = true
then = "allow"
"""
READERS = """
[[mcp.proxy.profiles]]
name = "readers"
tools = ["wiki:related"]
prompts = ["wiki:tour"]
resources = ["wiki:page://home"]
"""
MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])


def example(*more: str) -> str:
    """The configuration of the page, with real servers in place of those that it names."""
    found = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1].replace("enable = true", "enable = true\nport = {port}", 1)
    for name in ("tickets", "wiki"):
        ours = f"command = {json.dumps(sys.executable)}\nargs = [{json.dumps(str(DESK))}, {json.dumps(name)}]"
        assert f'command = "{name}-server"' in text
        text = text.replace(f'command = "{name}-server"', ours)
    return text + "".join(more)


@asynccontextmanager
async def client(running: Rad, path: str, mode: str, key: str = "") -> AsyncIterator[Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(f"http://127.0.0.1:{running.port}{path}", http_client=http), mode=mode) as opened,
    ):
        yield opened


async def tools_of(opened: Any) -> dict[str, Any]:
    return {tool.name: tool for tool in (await opened.list_tools()).tools}


async def uses_the_profile(opened: Any) -> None:
    """What every agent of the profile finds, over every transport."""
    assert opened.server_info.title == "Support desk"
    assert opened.instructions == "Search before you create a ticket."
    tools = await tools_of(opened)
    assert list(tools) == ["search_tickets", "create_issue", "search"]
    assert tools["search_tickets"].description == "Search the tickets of the support team."
    assert set(tools["search_tickets"].input_schema["properties"]) == {"query"}
    assert tools["search_tickets"].input_schema["required"] == ["query"]
    called = await opened.call_tool("search_tickets", {"query": "a"})
    assert called.content[0].text.startswith("a in SUPPORT, at most 20, with a token of 20 characters")
    assert TOKEN not in called.content[0].text
    called = await opened.call_tool("tickets:search_issues", {"query": "a", "limit": 3})
    assert "in SUPPORT, at most 3" in called.content[0].text
    with pytest.raises(MCPError, match="the argument 'project' is set by the gateway") as refused:
        await opened.call_tool("search_tickets", {"query": "a", "project": "OTHER"})
    assert refused.value.error.code == -32602
    for hidden in ("delete_issue", "tickets:delete_issue", "search_issues", "edit", "nonsense"):
        with pytest.raises(MCPError, match=f"Unknown tool: {hidden}") as refused:
            await opened.call_tool(hidden, {"project": "a", "number": 1, "query": "a", "token": "a"})
        assert refused.value.error.code == -32602
    assert (await opened.list_prompts()).prompts == []
    with pytest.raises(MCPError, match="Unknown prompt: triage"):
        await opened.get_prompt("triage")
    assert [str(one.uri) for one in (await opened.list_resources()).resources] == ["page://home"]
    for uri, text in (("page://home", "Welcome."), ("page://notes/a", "The notes of a.")):
        assert (await opened.read_resource(uri)).contents[0].text == text


@pytest.fixture(scope="module")
def running(shared_gateway: Any) -> Any:
    """One gateway with the example and another profile, for the tests that only talk to it."""
    return shared_gateway(example(READERS), env={"TICKETS_TOKEN": TOKEN})


@MODES
@pytest.mark.timeout(180)
async def test_the_example_is_what_agents_see_at_its_address(running: Rad, mode: str) -> None:
    async with client(running, "/mcp/p/support", mode) as opened:
        await uses_the_profile(opened)
    async with client(running, "/mcp", mode) as opened:
        assert set(await tools_of(opened)) >= {"search_issues", "delete_issue", "edit"}
        assert "The instructions of wiki." in opened.instructions
    assert TOKEN not in running.log.read_text()


@pytest.mark.timeout(180)
def test_commands_show_and_call_what_a_profile_has(running: Rad) -> None:
    shown = running.run("tools", "--profile", "support")
    assert re.findall(r"^(\w+)", shown.stdout, re.MULTILINE)[1:] == ["search_tickets", "create_issue", "search"]
    one = json.loads(running.run("tools", "search_tickets", "--profile", "support", "--json").stdout)
    assert (one["name"], one["published_name"], one["original_name"]) == (
        "search_tickets",
        "search_issues",
        "search_issues",
    )
    assert one["definition"]["inputSchema"]["required"] == ["query"]
    line = running.run("tools", "search_tickets", "--profile", "support").stdout.splitlines()[-1]
    assert line.endswith(" search_tickets --arg query=text --profile support"), line
    called = running.run("call", "search_tickets", "--arg", "query=7", "--profile", "support")
    assert called.stdout.startswith("7 in SUPPORT, at most 20"), "the type is that of the schema"
    called = running.run("call", "delete_issue", "--data", "{}", "--profile", "support")
    assert "hides it from this caller" in called.stderr
    called = running.run("call", "serch_tickets", "--profile", "support")
    assert "did you mean search_tickets?" in called.stderr
    for command in (["tools"], ["call", "search"]):
        unknown = running.run(*command, "--profile", "other")
        message = "error: no profile 'other'; the configuration has support, readers\n"
        assert (unknown.returncode, unknown.stderr) == (1, message)


WITHHELD = "[A link to a resource is withheld: this agent may not read it.]"


@MODES
@pytest.mark.timeout(180)
async def test_links_lead_only_to_what_the_profile_shows(running: Rad, mode: str) -> None:
    def shown(content: Any) -> list[str]:
        return [str(one.uri) if one.type == "resource_link" else one.text for one in content]

    before = len(running.log.read_text())
    async with client(running, "/mcp/p/readers", mode) as opened:
        for _ in range(2):  # the second call has a plan
            *links, inside = (await opened.call_tool("related", {})).content
            assert shown(links) == ["page://home", WITHHELD, "https://example.org/a"]
            assert inside.resource.text == "The notes of b."
        prompt = await opened.get_prompt("tour")
        assert shown([prompt.messages[0].content]) == [WITHHELD]
        with pytest.raises(MCPError):
            await opened.read_resource("page://notes/a")
    async with client(running, "/mcp", mode) as opened:
        *links, _ = (await opened.call_tool("related", {})).content
        assert shown(links) == ["page://home", "page://notes/a", "https://example.org/a"]

    def named() -> list[bool]:
        """Whether each line of a call names the profile."""
        lines = running.log.read_text()[before:].splitlines()
        calls = [line for line in lines if "tools/call related" in line and " outcome=" in line]
        return [" profile=readers" in line for line in calls]

    await asyncio.to_thread(wait_until, lambda: len(named()) == 3, what="the line of the last call")
    assert named() == [True, True, False]


@MODES
@pytest.mark.timeout(180)
def test_the_example_is_what_an_agent_on_stdio_sees(tmp_path: Path, mode: str) -> None:
    config = tmp_path / "mcp-proxy.toml"
    config.write_text(example().replace("{port}", "3000"))

    async def main() -> None:
        command = ["mcp", "proxy", "start", "--stdio", "--profile", "support", "--config", str(config)]
        server = StdioServerParameters(command=str(RAD), args=command, env={"TICKETS_TOKEN": TOKEN})
        async with Client(stdio_client(server), mode=mode) as opened:
            await uses_the_profile(opened)

    asyncio.run(main())


@pytest.mark.timeout(180)
def test_call_without_a_running_gateway_uses_the_profile(tmp_path: Path) -> None:
    config = tmp_path / "mcp-proxy.toml"
    text = example('\n[[mcp.proxy.profiles]]\nname = "rest"\ndefault = true\ntools = ["wiki:*"]\n')
    config.write_text(text.replace("{port}", "3000"))

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return rad("call", "--config", str(config), *arguments, env={**os.environ, "TICKETS_TOKEN": TOKEN})

    assert call("search_tickets", "--arg", "query=7", "--profile", "support").stdout.startswith("7 in SUPPORT, at most")
    hidden = call("create_issue", "--arg", "project=a", "--arg", "title=b")
    assert "Unknown tool: create_issue" in hidden.stderr, "the default profile does not show it"
    assert "hides it from this caller" in hidden.stderr
    assert "no profile 'other'; the configuration has" in call("search", "--profile", "other").stderr


@pytest.mark.timeout(240)
def test_a_key_that_is_bound_to_a_profile_reaches_no_other(gateway: Any) -> None:
    running = gateway(example('\n[[mcp.proxy.profiles]]\nname = "dev"\n', KEYS))
    bound = running.run("keys", "add", "ann", "--profile", "support").stdout.strip()
    free = running.run("keys", "add", "bob").stdout.strip()
    text = running.config.read_text()
    running.config.write_text(text + '\n[[mcp.proxy.profiles]]\nname = "gone"\n')
    lost = running.run("keys", "add", "eve", "--profile", "gone").stdout.strip()
    running.config.write_text(text)

    async def status(path: str, key: str) -> int:
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.post(f"http://127.0.0.1:{running.port}{path}", json=body, headers=headers)
            return int(answer.status_code)

    async def main() -> None:
        for mode in ("legacy", "auto"):
            for path in ("/mcp", "/mcp/p/support"):
                async with client(running, path, mode, bound) as opened:
                    assert list(await tools_of(opened)) == ["search_tickets", "wiki__search"], "a rule hides one"
                    with pytest.raises(MCPError, match="Unknown tool: tickets__create_issue"):
                        await opened.call_tool("tickets__create_issue", {"project": "a", "title": "b"})
            async with client(running, "/mcp/p/dev", mode, free) as opened:
                called = await opened.call_tool("tickets__create_issue", {"project": "a", "title": "b"})
                assert called.content[0].text == "b in a"
        for path in ("/mcp/p/dev", "/mcp/p/none"):
            assert await status(path, bound) == 404
        assert await status("/mcp/p/none", free) == 404
        assert await status("/mcp/p/none", "rad_wrong") == 401
        assert await status("/mcp", lost) == 403

    wait_until(lambda: asyncio.run(status("/mcp", lost)) == 403, what="the last key")
    asyncio.run(main())
    tried = ["call", "wiki__edit", "--arg", "page=a", "--profile", "dev", "--config", str(running.config)]
    assert rad(*tried, env={**os.environ, "RADIUM_TOKEN": free}).stdout == "a is changed\n"
    refused = rad(*tried, env={**os.environ, "RADIUM_TOKEN": bound})
    assert refused.returncode == 1
    assert "the address of profile dev is closed, or this caller may not use the profile" in refused.stderr
    lost_line = "its claim profile names no profile of the configuration"
    wait_until(lambda: lost_line in running.log.read_text(), what="the line of the last key")
    shown = running.run("access", "--as", "ann", "--issuer", "auth_apikey", "--profile", "support", "--json")
    decided = {one["name"]: one["decision"] for one in json.loads(shown.stdout)["tools"]}
    assert decided == {"search_tickets": "allow", "tickets__create_issue": "deny", "wiki__search": "allow"}
