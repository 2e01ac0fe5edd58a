"""Agents by others: the TypeScript SDK in both eras, the MCP Inspector, and the Python SDK over stdio and SSE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters

ERAS = ["legacy", "modern"]


@pytest.mark.parametrize("era", ERAS)
def test_the_typescript_sdk_uses_everything(gateway: Any, tools: Any, tmp_path: Path, era: str) -> None:
    done = tools.run_node("client.mjs", gateway.url, era, home=tmp_path)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert {"get-sum", "read_text_file", "read_graph", "convert_time", "git_log"} <= set(got["tools"])
    assert got["sum"]["content"] == [{"type": "text", "text": "The sum of 2 and 3 is 5."}]
    assert got["structured"]["structuredContent"]["humidity"] == 82
    assert got["refused"]["isError"] is True
    assert "expected number" in got["refused"]["content"][0]["text"]
    assert "Steps: 4." in got["long"]["content"][0]["text"]
    assert [(step["progress"], step["total"]) for step in got["progress"]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert got["resource"]["contents"][0]["text"].startswith("Resource 7:")
    assert "memory://knowledge-graph" in got["resources"]
    assert "demo://resource/dynamic/text/{resourceId}" in got["templates"]
    assert "args-prompt" in got["prompts"]
    assert got["prompt"]["messages"][0]["content"]["text"] == "What's weather in Oslo?"
    assert got["completion"]["completion"]["values"] == ["Sales", "Support"]


def inspect(tools: Any, home: Path, url: str, era: str, *options: str) -> dict[str, Any]:
    """One run of the Inspector's command line; the result that it prints."""
    inspector = str(tools.packages / ".bin" / "mcp-inspector")
    done = tools.run_node(inspector, "--cli", url, "--protocol-era", era, "--format", "json", *options, home=home)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    return result


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_lists_calls_and_reads(gateway: Any, tools: Any, tmp_path: Path, era: str) -> None:
    listed = inspect(tools, tmp_path, gateway.url, era, "--method", "tools/list")
    assert {"get-sum", "read_graph", "git_log"} <= {tool["name"] for tool in listed["tools"]}
    call = ("--method", "tools/call", "--tool-name", "get-sum", "--tool-args-json", '{"a": 20, "b": 22}')
    assert inspect(tools, tmp_path, gateway.url, era, *call)["content"][0]["text"] == "The sum of 20 and 22 is 42."
    read = ("--method", "resources/read", "--uri", "demo://resource/static/document/features.md")
    assert "Features" in inspect(tools, tmp_path, gateway.url, era, *read)["contents"][0]["text"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_one_agent_on_stdin_and_stdout(launcher: Any, tools: Any, workspace: Path, mode: str) -> None:
    time = {"name": "time", "transport": "stdio", "command": str(tools.scripts / "mcp-server-time")}
    files = {
        "name": "files",
        "transport": "stdio",
        "command": str(tools.node),
        "args": [tools.server("filesystem"), str(workspace)],
    }
    config = launcher.write({"port": launcher.free_port(), "upstreams": [time, files]})
    rad = StdioServerParameters(
        command=str(launcher.rad), args=["mcp", "proxy", "start", "--stdio", "--config", str(config)]
    )
    async with Client(rad, mode=mode, read_timeout_seconds=60) as client:
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"convert_time", "read_text_file"} <= names
        zones = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
        converted = await client.call_tool("convert_time", zones)
        assert converted.structured_content is not None
        assert converted.structured_content["time_difference"] == "+9.0h"
        content = await client.call_tool("read_text_file", {"path": str(workspace / "hello.txt")})
        assert content.content[0].text == "first line\nsecond line\n"


async def test_the_older_sse_transport_serves_beside_the_new_one(launcher: Any, tools: Any) -> None:
    everything = {
        "name": "everything",
        "transport": "stdio",
        "command": str(tools.node),
        "args": [tools.server("everything")],
    }
    gateway = launcher.gateway({"transport": "sse", "upstreams": [everything]}, upstreams=1)
    seen: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with Client(sse_client(f"{gateway.base}/sse"), mode="legacy", read_timeout_seconds=60) as client:
        result = await client.call_tool("get-sum", {"a": 1, "b": 2})
        assert result.content[0].text == "The sum of 1 and 2 is 3."
        arguments = {"duration": 0.3, "steps": 3}
        await client.call_tool("trigger-long-running-operation", arguments, progress_callback=note)
        assert seen == [1, 2, 3]
    async with Client(gateway.url, read_timeout_seconds=60) as client:
        result = await client.call_tool("echo", {"message": "over /mcp"})
        assert result.content[0].text == "Echo: over /mcp"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_long_lists_come_in_pages(launcher: Any, tools: Any, mode: str) -> None:
    git = {"name": "git", "transport": "stdio", "command": str(tools.scripts / "mcp-server-git")}
    gateway = launcher.gateway({"limits": {"page_size": 5}, "upstreams": [git]}, upstreams=1)
    async with Client(gateway.url, mode=mode, read_timeout_seconds=60) as client:
        pages, cursor = [], None
        while True:
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            pages.append([tool.name for tool in page.tools])
            cursor = page.next_cursor
            if cursor is None:
                break
    assert [len(page) for page in pages] == [5, 5, 2]
    assert len({name for page in pages for name in page}) == 12
