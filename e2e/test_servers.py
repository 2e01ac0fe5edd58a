"""Servers by others behind the gateway, used through the official Python SDK's client in both eras."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import Implementation, PromptReference, ResourceTemplateReference

EVERYTHING = {
    "echo",
    "get-annotated-message",
    "get-env",
    "get-resource-links",
    "get-resource-reference",
    "get-roots-list",
    "get-structured-content",
    "get-sum",
    "get-tiny-image",
    "gzip-file-as-resource",
    "toggle-simulated-logging",
    "toggle-subscriber-updates",
    "trigger-elicitation-request",
    "trigger-long-running-operation",
    "trigger-sampling-request",
    "trigger-url-elicitation",
}
OTHERS = {
    "filesystem": {
        "create_directory",
        "directory_tree",
        "edit_file",
        "get_file_info",
        "list_allowed_directories",
        "list_directory",
        "list_directory_with_sizes",
        "move_file",
        "read_file",
        "read_media_file",
        "read_multiple_files",
        "read_text_file",
        "search_files",
        "write_file",
    },
    "memory": {
        "add_observations",
        "create_entities",
        "create_relations",
        "delete_entities",
        "delete_observations",
        "delete_relations",
        "open_nodes",
        "read_graph",
        "search_nodes",
    },
    "time": {"convert_time", "get_current_time"},
    "git": {
        "git_add",
        "git_branch",
        "git_checkout",
        "git_commit",
        "git_create_branch",
        "git_diff",
        "git_diff_staged",
        "git_diff_unstaged",
        "git_log",
        "git_reset",
        "git_show",
        "git_status",
    },
}


@pytest.fixture(params=["legacy", "auto"], ids=["legacy", "modern"])
async def client(request: pytest.FixtureRequest, gateway: Any) -> AsyncIterator[Client]:
    """An agent of each era."""
    # A name for each test, so that no test uses up another one's rate limit.
    name = Implementation(name=request.node.name, version="1")
    connected: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        # One task enters and leaves: the SDK's cancel scopes want that, and a fixture's two halves are two tasks.
        try:
            async with Client(gateway.url, mode=request.param, client_info=name, read_timeout_seconds=120) as client:
                connected.set_result(client)
                await done.wait()
        except BaseException as error:
            if connected.done():
                raise
            connected.set_exception(error)

    holder = asyncio.create_task(hold())
    client = await connected
    assert (client.protocol_version >= "2026-07-28") == (request.param == "auto")
    yield client
    done.set()
    await holder


async def text(client: Client, name: str, **arguments: Any) -> str:
    """The text of a tool's answer, which must be no error."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert result.content[0].type == "text"
    return result.content[0].text


async def test_the_catalog_has_every_tool_once_under_its_own_name(client: Client) -> None:
    listed = await client.list_tools()
    assert listed.next_cursor is None
    names = [tool.name for tool in listed.tools]
    assert len(names) == len(set(names))
    others = set().union(*OTHERS.values())
    # `everything` offers one more tool to clients that can run tasks.
    assert set(names) - {"simulate-research-query"} == EVERYTHING | others


async def test_three_transports_of_one_server_are_replicas(gateway: Any) -> None:
    tools = {tool["name"]: tool["upstreams"] for tool in gateway.rad("tools")["tools"]}
    assert tools["get-sum"] == ["everything", "overhttp", "oversse"]
    for upstream, names in OTHERS.items():
        assert all(tools[name] == [upstream] for name in names)


async def test_status_tells_each_upstreams_era(gateway: Any) -> None:
    eras = {each["name"]: each["era"] for each in gateway.rad("status")["upstreams"]}
    assert eras == {
        "everything": "legacy",
        "overhttp": "legacy",
        "oversse": "legacy",
        "filesystem": "legacy",
        "memory": "legacy",
        "time": "modern",
        "git": "modern",
    }


@pytest.mark.parametrize("upstream", ["everything", "overhttp", "oversse"])
async def test_everything_computes_over_each_transport(client: Client, gateway: Any, upstream: str) -> None:
    before = gateway.upstream(upstream)["calls"]
    assert await text(client, f"{upstream}:get-sum", a=2, b=3) == "The sum of 2 and 3 is 5."
    assert gateway.upstream(upstream)["calls"] > before


async def test_everything_answers_with_all_kinds_of_content(client: Client) -> None:
    assert await text(client, "echo", message="grüße 日本 \u2028 end") == "Echo: grüße 日本 \u2028 end"
    image = (await client.call_tool("get-tiny-image", {})).content[1]
    assert image.type == "image"
    assert base64.b64decode(image.data).startswith(b"\x89PNG")
    structured = await client.call_tool("get-structured-content", {"location": "Chicago"})
    assert structured.structured_content == {"temperature": 36, "conditions": "Light rain / drizzle", "humidity": 82}
    annotated = await client.call_tool("get-annotated-message", {"messageType": "error"})
    assert annotated.content[0].annotations is not None
    assert annotated.content[0].annotations.priority == 1.0
    links = await client.call_tool("get-resource-links", {"count": 3})
    assert [part.type for part in links.content].count("resource_link") == 3


async def test_a_tools_own_error_comes_through_untouched(client: Client) -> None:
    result = await client.call_tool("get-sum", {"a": "two"})
    assert result.is_error
    assert "expected number" in str(result.content)


async def test_an_unknown_tool_is_refused_with_invalid_params(client: Client) -> None:
    with pytest.raises(MCPError, match="no-such-tool") as refused:
        await client.call_tool("no-such-tool", {})
    assert refused.value.code == -32602


@pytest.mark.parametrize("upstream", ["everything", "overhttp", "oversse"])
async def test_progress_reaches_the_agent_under_its_own_token(client: Client, upstream: str) -> None:
    seen: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    result = await client.call_tool(
        f"{upstream}:trigger-long-running-operation", {"duration": 0.8, "steps": 4}, progress_callback=note
    )
    assert "Duration: 0.8 seconds, Steps: 4." in str(result.content)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


async def test_a_cancelled_call_is_let_go(client: Client, gateway: Any) -> None:
    long = asyncio.create_task(client.call_tool("trigger-long-running-operation", {"duration": 100, "steps": 5}))
    await _in_flight(gateway, 1)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    await _in_flight(gateway, 0)
    assert await text(client, "echo", message="still here") == "Echo: still here"


async def _in_flight(gateway: Any, wanted: int) -> None:
    async with asyncio.timeout(60):
        while (await asyncio.to_thread(gateway.upstream, "everything"))["in_flight"] != wanted:
            await asyncio.sleep(0.05)


async def test_a_long_call_delays_no_other(client: Client) -> None:
    steps: asyncio.Queue[float] = asyncio.Queue()

    async def note(progress: float, total: float | None, message: str | None) -> None:
        steps.put_nowait(progress)

    arguments = {"duration": 100, "steps": 1000}
    long = asyncio.create_task(client.call_tool("trigger-long-running-operation", arguments, progress_callback=note))
    await steps.get()
    sums = await asyncio.gather(*(text(client, "get-sum", a=n, b=n) for n in range(10)))
    assert sums == [f"The sum of {n} and {n} is {2 * n}." for n in range(10)]
    last = max(steps.get_nowait() for _ in range(steps.qsize())) if steps.qsize() else 1
    assert await steps.get() > last, "it goes on"
    assert not long.done()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_resources_and_templates_of_all_upstreams_are_read(client: Client) -> None:
    listed = {resource.uri for resource in (await client.list_resources()).resources}
    assert "memory://knowledge-graph" in listed
    assert "demo://resource/static/document/architecture.md" in listed
    architecture = await client.read_resource("demo://resource/static/document/architecture.md")
    assert "Architecture" in architecture.contents[0].text
    templates = {each.uri_template for each in (await client.list_resource_templates()).resource_templates}
    assert templates == {"demo://resource/dynamic/text/{resourceId}", "demo://resource/dynamic/blob/{resourceId}"}
    dynamic = await client.read_resource("demo://resource/dynamic/text/7")
    assert dynamic.contents[0].text.startswith("Resource 7: This is a plaintext resource")
    blob = await client.read_resource("demo://resource/dynamic/blob/8")
    assert base64.b64decode(blob.contents[0].blob).startswith(b"Resource 8:")


async def test_an_unknown_resource_is_an_error(client: Client) -> None:
    with pytest.raises(MCPError) as refused:
        await client.read_resource("nowhere://nothing")
    modern = client.protocol_version >= "2026-07-28"
    assert refused.value.code == (-32602 if modern else -32002)


async def test_prompts_and_their_arguments(client: Client) -> None:
    names = [prompt.name for prompt in (await client.list_prompts()).prompts]
    assert names == ["simple-prompt", "args-prompt", "completable-prompt", "resource-prompt"]
    prompt = await client.get_prompt("args-prompt", {"city": "Oslo"})
    assert prompt.messages[0].content.text == "What's weather in Oslo?"


async def test_completion_of_prompts_and_templates(client: Client) -> None:
    ref = PromptReference(name="completable-prompt")
    departments = await client.complete(ref, {"name": "department", "value": "S"})
    assert departments.completion.values == ["Sales", "Support"]
    people = await client.complete(ref, {"name": "name", "value": ""}, {"department": "Engineering"})
    assert people.completion.values == ["Alice", "Bob", "Charlie"]
    template = ResourceTemplateReference(uri="demo://resource/dynamic/text/{resourceId}")
    numbers = await client.complete(template, {"name": "resourceId", "value": "3"})
    assert numbers.completion.values == ["3"]


async def test_filesystem_reads_writes_and_refuses(client: Client, workspace: Path) -> None:
    assert await text(client, "read_text_file", path=str(workspace / "hello.txt"), head=1) == "first line"
    written = workspace / f"{client.protocol_version}.txt"
    await text(client, "write_file", path=str(written), content="from an agent\n")
    assert written.read_text() == "from an agent\n"
    assert "[FILE] hello.txt" in await text(client, "list_directory", path=str(workspace))
    outside = await client.call_tool("read_text_file", {"path": "/etc/hostname"})
    assert outside.is_error
    assert "Access denied" in str(outside.content)


async def test_memory_remembers_between_calls(client: Client) -> None:
    name = f"Ada {client.protocol_version}"
    entity = {"name": name, "entityType": "person", "observations": ["wrote the first program"]}
    await text(client, "create_entities", entities=[entity])
    found = await client.call_tool("search_nodes", {"query": name})
    assert found.structured_content == {"entities": [entity], "relations": []}
    graph = await client.read_resource("memory://knowledge-graph")
    assert name in graph.contents[0].text


async def test_time_converts_between_zones(client: Client) -> None:
    result = await client.call_tool(
        "convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
    )
    assert result.structured_content is not None
    assert result.structured_content["time_difference"] == "+9.0h"
    assert "T21:00:00+09:00" in result.structured_content["target"]["datetime"]


async def test_git_tells_history_and_changes(client: Client, workspace: Path) -> None:
    repository = str(workspace / "repository")
    history = await text(client, "git_log", repo_path=repository)
    assert "The first commit" in history
    assert "Ada" in history
    assert "+# A changed repository" in await text(client, "git_diff_unstaged", repo_path=repository)
