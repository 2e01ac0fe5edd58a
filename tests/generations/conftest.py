"""A gateway in this process whose configuration file the test rewrites, in front of real servers on stdio."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from mcp import Client

from gateway_core.catalog.memory import Memory
from gateway_core.config import Config, loads
from gateway_core.errors import ConfigError
from gateway_core.gateway import Gateway
from gateway_core.generations.reloads import Report

SERVER = Path(__file__).with_name("server.py")
MODERN = "2026-07-28"


def served(name: str, *extra: str, **settings: Any) -> dict[str, Any]:
    """The table of an upstream with the tools `NAME_pid`, `NAME_wait` and `extra`."""
    return {
        "name": name,
        "transport": "stdio",
        "command": sys.executable,
        "args": [str(SERVER), name, *extra],
        **settings,
    }


class Prepared:
    """Parts of the process: a note of what became of them."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def apply(self) -> None:
        self._notes.append("applied")

    def discard(self) -> None:
        self._notes.append("discarded")


class Stand:
    """The file, and the gateway that runs by it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.lists: Path | None = None
        """The folder of the last known lists."""
        self.names: Path | None = None
        """The file of the names."""
        self.refuses = ""
        """Why the process cannot be prepared."""
        self.gateway: Gateway

    def write(self, *upstreams: dict[str, Any], **settings: Any) -> None:
        """Write the file."""
        self.path.write_text(
            tomli_w.dumps({"mcp": {"proxy": {"enable": True, **settings, "upstreams": list(upstreams)}}})
        )
        self.path.chmod(0o600)

    def read(self) -> Config:
        return self.check(self.path.read_text())

    def replaced(self, by: Path) -> None:
        self.notes.append("written")

    def check(self, text: str) -> Config:
        config = loads(text, self.path)
        return Config(config.path, config.proxy.model_copy(update={"port": 0}), config.disabled)

    def hold_checks(self, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, threading.Event]:
        """Let checks of the file wait. Returns what is set once one waits, and what lets all go on."""
        waits, go_on, check = asyncio.Event(), threading.Event(), self.check
        loop = asyncio.get_running_loop()

        def held(text: str) -> Config:
            loop.call_soon_threadsafe(waits.set)
            assert go_on.wait(60)
            return check(text)

        monkeypatch.setattr(self, "check", held)
        return waits, go_on

    def prepare(self, config: Config) -> Prepared:
        if self.refuses:
            raise ConfigError([self.refuses])
        return Prepared(self.notes)

    async def start(self, *upstreams: dict[str, Any], wait: bool = True, **settings: Any) -> None:
        """Start a gateway. `wait`: until each upstream was reached or has failed."""
        self.write(*upstreams, **settings)
        config = self.read()
        memory = None if self.names is None else Memory(config.proxy, self.names)
        self.gateway = Gateway(config, source=self, lists=self.lists, memory=memory)
        await self.gateway.start()
        if wait:
            await self.gateway.wait_first_discovery(60)

    async def reload(self, *upstreams: dict[str, Any], **settings: Any) -> list[str]:
        """Rewrite the file, and reload; returns the changes as sentences."""
        self.write(*upstreams, **settings)
        report: Report = await self.gateway.reload()
        return [str(change) for change in report.changes]

    @asynccontextmanager
    async def client(self, mode: str = MODERN, **options: Any) -> AsyncIterator[Client]:
        async with Client(f"{self.gateway.address}/mcp", mode=mode, read_timeout_seconds=60, **options) as client:
            yield client

    async def settled(self) -> None:
        """Wait until no earlier generation serves anything."""
        async with asyncio.timeout(60):
            await self.gateway._reloads.settled()


Begin = Callable[..., Awaitable[Stand]]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """A stand that is not started yet."""
    made = Stand(tmp_path / "mcp-proxy.toml")
    try:
        yield made
    finally:
        if hasattr(made, "gateway"):
            await made.gateway.stop()


async def text(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a tool's result."""
    result: Any = await client.call_tool(tool, arguments)
    return str(result.content[0].text)


async def names(client: Client) -> set[str]:
    """The names of the listed tools."""
    return {tool.name for tool in (await client.list_tools()).tools}
