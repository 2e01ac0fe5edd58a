"""A gateway in this process with its control plane, in front of a real server on stdio, and readers of its activity."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w
from mcp import Client

from gateway_core.config import Config, load
from gateway_core.gateway import Gateway

SERVER = Path(__file__).with_name("server.py")
MODERN = "2026-07-28"
TOKEN = "sesame-sesame"
READ_TOKEN = "lentil-lentil"


class Nothing:
    """The parts of a process that has none."""

    def apply(self) -> None: ...
    def discard(self) -> None: ...


class Stand:
    """A gateway, and an operator with its token."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gateway: Gateway
        self.http: aiohttp.ClientSession

    def write(self, *, upstreams: tuple[dict[str, Any], ...] = (), **settings: Any) -> None:
        """Write the file: one server, `upstreams`, and other settings."""
        server = {"name": "desk", "transport": "stdio", "command": sys.executable, "args": [str(SERVER)]}
        proxy = {"enable": True, **settings, "upstreams": [server, *upstreams]}
        self.path.write_text(tomli_w.dumps({"mcp": {"proxy": proxy}}))
        self.path.chmod(0o600)

    def read(self) -> Config:
        config = load(self.path)
        return Config(config.path, config.proxy.model_copy(update={"port": 0}), config.disabled)

    def prepare(self, _: Config) -> Nothing:
        return Nothing()

    async def start(self, **settings: Any) -> None:
        self.write(**settings)
        self.gateway = Gateway(self.read(), source=self, admin_token=TOKEN, read_token=READ_TOKEN)
        await self.gateway.start_control("127.0.0.1", 0)
        await self.gateway.start()
        await self.gateway.wait_first_discovery(60)

    async def stop(self) -> None:
        await self.http.close()
        if hasattr(self, "gateway"):
            await self.gateway.stop()

    @asynccontextmanager
    async def client(self, mode: str = MODERN, **options: Any) -> AsyncIterator[Client]:
        async with Client(f"{self.gateway.address}/mcp", mode=mode, read_timeout_seconds=60, **options) as client:
            yield client

    async def ask(
        self, path: str, method: str = "GET", status: int = 200, *, token: str = TOKEN, body: Any = None
    ) -> Any:
        """The answer of the control plane. `body`: a JSON value, if the request has one."""
        options: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token}"} if token else {}}
        if body is not None:
            options["json"] = body
        async with self.http.request(method, self.gateway.control.address + path, **options) as response:
            assert response.status == status, await response.text()
            return await response.json()

    @asynccontextmanager
    async def events(self, query: str = "", **headers: str) -> AsyncIterator[Callable[[], Any]]:
        """An event stream; yields a function that returns the next message: its id and its data."""
        headers["Authorization"] = f"Bearer {TOKEN}"
        timeout = aiohttp.ClientTimeout(total=120)
        url = f"{self.gateway.control.address}/admin/events{query}"
        async with self.http.get(url, headers=headers, timeout=timeout) as response:
            assert response.status == 200, await response.text()

            async def message() -> tuple[int, Any]:
                found: dict[str, str] = {}
                async with asyncio.timeout(60):
                    async for raw in response.content:
                        line = raw.decode().rstrip("\n")
                        if not line and found:
                            return int(found["id"]), json.loads(found["data"])
                        if ": " in line and not line.startswith(":"):
                            key, _, value = line.partition(": ")
                            found[key] = value
                raise AssertionError("the stream has ended")

            yield message

    @staticmethod
    async def until(message: Callable[[], Any], admits: Callable[[Any], bool]) -> Any:
        """The first event of a stream that `admits` accepts, and that no earlier look of it has returned."""
        seen = vars(message).setdefault("seen", [])
        while True:
            for event in seen:
                if admits(event):
                    seen.remove(event)
                    return event
            _, data = await message()
            seen += data["events"]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """A stand that is not started yet."""
    made = Stand(tmp_path / "mcp-proxy.toml")
    made.http = aiohttp.ClientSession()
    try:
        yield made
    finally:
        await made.stop()


async def eventually(found: Callable[[], Any]) -> Any:
    """What an asynchronous function returns, once that is true."""
    async with asyncio.timeout(60):
        while not (value := await found()):
            await asyncio.sleep(0.02)
        return value
