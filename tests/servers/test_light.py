"""The light server serves the official SDK's clients of both eras."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

TESTS = Path(__file__).parents[1]
MODES = pytest.mark.parametrize("mode", ["legacy", "auto"])


def client(mode: str, *command: str) -> Client:
    server = StdioServerParameters(command=sys.executable, args=[str(TESTS / command[0]), *command[1:]])
    return Client(stdio_client(server), mode=mode, read_timeout_seconds=30)


@MODES
async def test_each_kind_of_request_is_answered(mode: str) -> None:
    async with client(mode, "acceptance/servers/desk.py", "wiki") as opened:
        assert opened.instructions == "The instructions of wiki."
        tools = {tool.name: tool for tool in (await opened.list_tools()).tools}
        assert tools["edit"].input_schema["required"] == ["page"]
        called = await opened.call_tool("search", {"query": "a"})
        assert called.content[0].text == "no page has a"
        for name, arguments in (("search", {"query": 1}), ("search", {}), ("none", {})):
            assert (await opened.call_tool(name, arguments)).is_error
        links = (await opened.call_tool("related", {})).content
        assert [one.type for one in links] == [*["resource_link"] * 3, "resource"]
        assert [one.name for one in (await opened.list_prompts()).prompts] == ["tour"]
        assert (await opened.get_prompt("tour")).messages[0].content.type == "resource_link"
        assert [str(one.uri) for one in (await opened.list_resources()).resources] == ["page://home"]
        templates = (await opened.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["page://notes/{name}"]
        assert (await opened.read_resource("page://notes/b")).contents[0].text == "The notes of b."
        for wrong in (opened.read_resource("page://notes/a/b"), opened.get_prompt("none")):
            with pytest.raises(MCPError):
                await wrong


@MODES
async def test_calls_report_progress_run_beside_each_other_and_can_be_cancelled(mode: str) -> None:
    reached = asyncio.Event()

    async def progress(done: float, *_: Any) -> None:
        if done == 3:
            reached.set()

    async with client(mode, "activity/server.py") as opened:
        waiting = asyncio.create_task(opened.call_tool("wait", {"seconds": 600}, progress_callback=progress))
        async with asyncio.timeout(30):
            await reached.wait()
        assert (await opened.call_tool("echo", {"text": "beside"})).content[0].text == "beside"
        failed = await opened.call_tool("fail", {"text": "why"})
        assert (failed.is_error, failed.content[0].text) == (True, "Error executing tool fail: why")
        waiting.cancel()
        await asyncio.wait({waiting})
        assert (await opened.call_tool("wait", {"seconds": 0})).content[0].text == "waited"
