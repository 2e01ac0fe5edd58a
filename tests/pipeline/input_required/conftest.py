"""A whole gateway in this process over servers that ask, and clients of the official SDK that answer."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from pydantic import FileUrl

from gateway_core.config import Config, ProxyConfig, UpstreamConfig
from gateway_core.gateway import Gateway

ASKER = Path(__file__).with_name("asker.py")
MODES = {"legacy": "legacy", "modern": "2026-07-28"}


@pytest.fixture(scope="session")
def asker() -> Iterator[Callable[[str, str], dict[str, Any]]]:
    """The keys of an upstream: `asker("stdio", "legacy")`. HTTP servers live as long as the tests."""
    children: dict[str, tuple[subprocess.Popen[bytes], str]] = {}

    def keys(transport: str, era: str) -> dict[str, Any]:
        flags = ["--legacy-only"] if era == "legacy" else []
        if transport == "stdio":
            return {"transport": "stdio", "command": sys.executable, "args": (str(ASKER), *flags)}
        if era not in children:
            command = [sys.executable, str(ASKER), "--http", *flags]
            child = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert child.stdout is not None
            children[era] = (child, f"http://127.0.0.1:{int(child.stdout.readline())}/mcp")
        return {"transport": "http", "url": children[era][1]}

    yield keys
    for child, _ in children.values():
        child.kill()
        child.communicate()


@dataclass
class World:
    """A running gateway, and who talks to it."""

    gateway: Gateway
    clients: AsyncExitStack
    asked: dict[str, list[str]] = field(default_factory=dict)
    """Client's name -> what it was asked."""

    @property
    def url(self) -> str:
        return f"{self.gateway.address}/mcp"

    async def client(self, era: str, name: str, **options: Any) -> Client:
        """A client that answers with its own name, so that a question which reaches the wrong one is seen."""
        asked = self.asked.setdefault(name, [])

        async def elicit(context: Any, params: Any) -> types.ElicitResult:
            asked.append(params.message)
            if params.mode == "url":
                return types.ElicitResult(action="accept")
            return types.ElicitResult(action="accept", content={"name": name})

        async def sample(context: Any, params: Any) -> types.CreateMessageResult:
            asked.append(params.messages[0].content.text)
            content = types.TextContent(type="text", text=f"thought by {name}")
            return types.CreateMessageResult(role="assistant", content=content, model="m")

        async def roots(context: Any) -> types.ListRootsResult:
            asked.append("roots")
            return types.ListRootsResult(roots=[types.Root(uri=FileUrl(f"file:///{name}"))])

        options = {"elicitation_callback": elicit, "sampling_callback": sample, "list_roots_callback": roots} | options
        info = types.Implementation(name=name, version="1")
        made = Client(self.url, mode=MODES[era], client_info=info, read_timeout_seconds=20, **options)
        return await self.clients.enter_async_context(made)

    async def journal(self, name: str = "asker") -> dict[str, list[str]]:
        """What the server says that happened."""
        client = await self.client("modern", "auditor")
        found: dict[str, list[str]] = json.loads(text(await client.call_tool(f"{name}:journal", {})))
        return found

    @staticmethod
    async def until(holds: Callable[[], Any], seconds: float = 5.0) -> None:
        """Wait for something that is about to happen elsewhere."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)


def text(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


@pytest.fixture
def world() -> Callable[..., Any]:
    """A running gateway over upstreams: `async with world({"transport": …}, question_timeout=2) as w`.

    Not a fixture of its own: clients of the SDK have to be left by the task that entered them, which is the test's.
    """

    @contextlib.asynccontextmanager
    async def start(*upstreams: dict[str, Any], **settings: Any) -> AsyncIterator[World]:
        configs = tuple(UpstreamConfig(**{"name": "asker", **keys}) for keys in upstreams)
        # Port 0 is no value of the file's, and the way to a free one here.
        proxy = ProxyConfig(enable=True, upstreams=configs, **settings).model_copy(update={"port": 0})
        gateway = Gateway(Config(None, proxy))
        await gateway.start()
        try:
            await gateway.wait_first_discovery(20)
            async with AsyncExitStack() as clients:
                yield World(gateway, clients)
        finally:
            await gateway.stop()

    return start


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine makes no streams of answers; these agents read JSON."""
    monkeypatch.setattr("gateway_core.downstream.streams.stream.QUIET", 60.0)
