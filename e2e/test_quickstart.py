"""The founding document's quick start, word for word but for the ports, with one of its servers killed mid-run."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

QUICK_START = """\
[mcp.proxy]
enable = true
port = 3000
transport = "http"
[[mcp.proxy.upstreams]]
name = "server1"
transport = "http"
url = "http://localhost:8080/mcp"
priority = 1
health_check_interval = 30
[[mcp.proxy.upstreams]]
name = "server2"
transport = "http"
url = "http://localhost:8081/mcp"
priority = 2
health_check_interval = 30
"""


class Caller:
    """An agent that calls `echo`, one call after the other, and counts what becomes of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.served: Counter[str] = Counter()
        self.failed: list[str] = []

    async def run(self, stop: asyncio.Event) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                result = await self._client.call_tool("echo", {"text": f"call {number}"})
            except MCPError as error:
                self.failed.append(str(error))
                continue
            if result.is_error or result.structured_content is None:
                self.failed.append(str(result.content))
                continue
            assert result.structured_content["text"] == f"call {number}"
            self.served[result.structured_content["served_by"]] += 1
            await asyncio.sleep(0.01)

    async def reach(self, server: str, more: int = 1) -> None:
        """Wait until that server has served so many more calls."""
        target = self.served[server] + more
        async with asyncio.timeout(100):
            while self.served[server] < target:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_killing_the_first_server_moves_the_calls_and_restarting_it_brings_them_back(
    launcher: Any, mode: str, wait_for: Callable[..., None]
) -> None:
    port, first, second = (launcher.free_port() for _ in range(3))
    config = _write(launcher, {"port = 3000": f"port = {port}", ":8080/": f":{first}/", ":8081/": f":{second}/"})
    server1 = launcher.http_server("server1", first)
    launcher.http_server("server2", second)
    gateway = launcher.start(config, port)
    for name in ("server1", "server2"):
        wait_for(lambda name=name: gateway.upstream(name)["state"] == "healthy", f"{name} is healthy")
    async with Client(f"http://localhost:{port}", mode=mode, read_timeout_seconds=60) as client:
        caller, stop = Caller(client), asyncio.Event()
        calls = asyncio.create_task(caller.run(stop))
        await caller.reach("server1", 20)
        assert set(caller.served) == {"server1"}, "the primary serves as long as it lives"
        server1.send_signal(signal.SIGKILL)
        server1.wait()
        await caller.reach("server2")
        failed = len(caller.failed)
        assert failed <= 1, "only the call in flight on the killed server may fail"
        await caller.reach("server2", 20)
        await asyncio.to_thread(launcher.http_server, "server1", first)
        await caller.reach("server1")
        assert len(caller.failed) == failed, caller.failed
        stop.set()
        await calls
    assert gateway.process.poll() is None


def _write(launcher: Any, changes: dict[str, str]) -> Path:
    text = QUICK_START
    for named, free in changes.items():
        assert named in text
        text = text.replace(named, free)
    # The document's limit of 60 calls a minute stands by default; this agent calls much faster.
    text += "[mcp.proxy.security]\nrate_limit_per_minute = 0\n"
    config: Path = launcher.processes.folder / "quickstart" / ".radium" / "mcp-proxy.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    return config
