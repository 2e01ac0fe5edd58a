"""A gateway in this process over odd servers, and the odd servers over HTTP in a separate process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway_core.config import loads
from gateway_core.gateway import Gateway
from tests.ports import free_port


@pytest.fixture(scope="session")
def urls() -> Iterator[dict[str, str]]:
    """The addresses of all odd servers over HTTP, by name."""
    command = [sys.executable, "-m", "tests.field.host"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as host:
        assert host.stdout is not None
        yield json.loads(host.stdout.readline())
        host.communicate(timeout=20)


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Start a gateway: `gateway = await start([upstream, ...], key=value)`, with keys of `[mcp.proxy]`."""
    async with contextlib.AsyncExitStack() as ends:

        async def run(upstreams: list[dict[str, Any]], **settings: Any) -> Gateway:
            port = free_port()
            limit = {"rate_limit_per_minute": 0}
            proxy = {"enable": True, "port": port, "security": limit, **settings, "upstreams": upstreams}
            gateway = Gateway(loads(tomli_w.dumps({"mcp": {"proxy": proxy}}), tmp_path / "mcp-proxy.toml"))
            await gateway.start()
            ends.push_async_callback(gateway.stop)
            return gateway

        yield run


async def until(holds: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until a state is reached."""
    try:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {seconds} s")
