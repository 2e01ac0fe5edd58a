"""Questions of a server by others (server-everything, up to 2025-11-25, over stdio) to clients of the official SDK."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CreateMessageResult, ElicitResult, Implementation, ListRootsResult, Root, TextContent

MODES = {"legacy": "legacy", "modern": "2026-07-28"}


@pytest.fixture(params=["shared", "agent", "call"])
def everything(launcher: Any, tools: Any, request: pytest.FixtureRequest) -> tuple[Any, str]:
    command = {"transport": "stdio", "command": str(tools.node), "args": [tools.server("everything")]}
    upstream = {"name": "everything", "isolation": request.param, **command}
    settings = {"upstreams": [upstream], "security": {"rate_limit_per_minute": 0}}
    return launcher.gateway(settings, upstreams=1), request.param


def client(gateway: Any, era: str, name: str, asked: list[str]) -> Client:
    """A client that answers with its own name."""

    async def elicit(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"name": name})

    async def sample(context: Any, params: Any) -> CreateMessageResult:
        asked.append(params.messages[0].content.text)
        content = TextContent(type="text", text=f"thought by {name}")
        return CreateMessageResult(role="assistant", content=content, model="none")

    async def roots(context: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=f"file:///{name}")])

    return Client(
        gateway.url,
        mode=MODES[era],
        client_info=Implementation(name=name, version="1"),
        read_timeout_seconds=120,
        elicitation_callback=elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
    )


def said(result: Any) -> str:
    assert not result.is_error, result
    return "\n".join(block.text for block in result.content)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_client_is_asked_while_fifty_other_calls_run(everything: tuple[Any, str], era: str) -> None:
    gateway, isolation = everything
    asked: list[str] = []
    async with client(gateway, era, "ann", asked) as ann, client(gateway, "legacy", "ben", []) as ben:

        async def sums() -> None:
            for number in range(50):
                assert str(number + 1) in said(await ben.call_tool("get-sum", {"a": number, "b": 1}))

        others = asyncio.create_task(sums()) if isolation != "shared" else None
        elicited = said(await ann.call_tool("trigger-elicitation-request", {}))
        sampled = said(await ann.call_tool("trigger-sampling-request", {"prompt": "of ann"}))
        if others is not None:
            await others
    assert "- Name: ann" in elicited
    assert "thought by ann" in sampled
    assert len(asked) == 2
    assert "of ann" in asked[1]


@pytest.mark.parametrize("everything", ["shared"], indirect=True)
async def test_a_question_that_may_be_anothers_is_refused(everything: tuple[Any, str]) -> None:
    gateway, _ = everything
    asked: list[str] = []
    async with client(gateway, "modern", "ann", asked) as ann, client(gateway, "legacy", "ben", []) as ben:
        steps: asyncio.Queue[float] = asyncio.Queue()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            steps.put_nowait(progress)

        arguments = {"duration": 100, "steps": 1000}
        long = asyncio.create_task(ben.call_tool("trigger-long-running-operation", arguments, progress_callback=note))
        await steps.get()
        try:
            refused = json.dumps((await ann.call_tool("trigger-elicitation-request", {})).model_dump(mode="json"))
        except MCPError as error:
            refused = str(error)
        assert "isolation" in refused
        assert asked == []
        last = max(steps.get_nowait() for _ in range(steps.qsize())) if steps.qsize() else 1
        assert await steps.get() > last, "the call of the other goes on"
        assert not long.done()
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
