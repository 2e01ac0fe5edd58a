"""A gateway in this process over servers with users, and clients that a trusted proxy names."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import tomli_w
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from gateway_core.api import UpstreamState
from gateway_core.config import loads
from gateway_core.gateway import Gateway
from gateway_core.upstream.upstream import Upstream

SERVER = Path(__file__).with_name("user_server.py")
ERAS = {"legacy": "legacy", "modern": "2026-07-28"}
FORWARD = {"X-User-Id": "principal.subject", "X-Api-Key": "header:X-Tracker-Key?"}


@pytest.fixture(scope="session")
def user_server() -> Iterator[Callable[..., str]]:
    """The server in a child process, one for each set of flags: `url = user_server("--legacy")`."""
    children: dict[tuple[str, ...], tuple[subprocess.Popen[bytes], str]] = {}

    def start(*flags: str) -> str:
        if flags not in children:
            child = subprocess.Popen([sys.executable, str(SERVER), *flags], stdout=subprocess.PIPE)
            assert child.stdout is not None
            children[flags] = (child, f"http://127.0.0.1:{int(child.stdout.readline())}/mcp")
        return children[flags][1]

    yield start
    for child, _ in children.values():
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


class World:
    """A gateway over one server, and its clients."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.upstream: Upstream = gateway.pool.upstreams[0]

    @property
    def identities(self) -> int:
        assert self.upstream.identities is not None
        return len(self.upstream.identities)

    @contextlib.asynccontextmanager
    async def client(
        self, user: str | None, era: str, key: str | None = None, *, bearer: str | None = None, **options: Any
    ) -> AsyncIterator[Client]:
        """The SDK's client, for which the proxy vouches as `user`, or which has the token `bearer`."""
        headers = {} if user is None else {"X-Forwarded-User": user}
        headers |= {} if key is None else {"X-Tracker-Key": key}
        headers |= {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport: Any = streamable_http_client(f"{self.gateway.address}/mcp", http_client=http)
            async with Client(transport, mode=ERAS[era], read_timeout_seconds=20, **options) as client:
                yield client


async def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a state is reached."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


async def told(client: Client, tool: str, **arguments: Any) -> Any:
    """The JSON that a tool answers."""
    result: Any = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return json.loads(result.content[0].text)


async def failure(asking: Awaitable[Any]) -> str:
    """Why a request of a client failed, from the error or from the result of the tool."""
    try:
        result = await asking
    except MCPError as error:
        return str(error)
    assert result.is_error, result
    return str(result.content[0].text)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a gateway: `world = await world(url, forward={...})`, with keys of the upstream."""
    async with contextlib.AsyncExitStack() as ends:

        async def run(url: str, *, proxy: dict[str, Any] | None = None, **keys: Any) -> World:
            upstream = {"name": "tracker", "transport": "http", "url": url, "forward": FORWARD, **keys}
            settings: dict[str, Any] = {
                "enable": True,
                "anonymous": True,
                "trusted_proxies": {"networks": ["127.0.0.1/32"], "identity_header": "X-Forwarded-User"},
                **(proxy or {"security": {"rate_limit_per_minute": 0}}),
            }
            text = tomli_w.dumps({"mcp": {"proxy": {**settings, "upstreams": [upstream]}}})
            config = loads(text, tmp_path / "mcp-proxy.toml")
            config = type(config)(config.path, config.proxy.model_copy(update={"port": 0}), config.disabled)
            gateway = Gateway(config)
            await gateway.start()
            ends.push_async_callback(gateway.stop)
            made = World(gateway)
            await until(lambda: made.upstream.facts.state is UpstreamState.HEALTHY)
            await gateway.catalog.settled()
            return made

        yield run
