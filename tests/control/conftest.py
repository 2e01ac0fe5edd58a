"""A control plane over operations that tests can change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from gateway_core.control import Access, BrowserSessions, ControlPlane
from gateway_core.control.endpoint import AnyEndpoint
from gateway_core.control.table import table
from gateway_core.errors import UnknownProfile
from gateway_core.hooks.pages import PluginPage
from gateway_core.http1.hosts import HostGuard

READ = "read-sesame"


@dataclass
class FakeReport:
    shown: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.shown


@dataclass
class FakeCalls:
    done: list[tuple[str, str]]

    def listing(self) -> list[dict[str, Any]]:
        return [{"id": "hush-1"}]

    def cancel(self, exchange_id: str) -> bool:
        self.done.append(("cancel", exchange_id))
        return exchange_id == "a1/b"


@dataclass
class FakeOperations:
    ready: bool = True
    browsers: BrowserSessions = field(default_factory=BrowserSessions)
    control: Any = None
    delay: float = 0.0
    """Seconds that reading the file takes."""
    problem: Exception | None = None
    """What is wrong with the file."""
    shown: dict[str, Any] = field(default_factory=lambda: {"pid": 1})

    edits: Any = None
    pool: Any = None
    downstream: Any = None
    pages: dict[str, PluginPage] = field(default_factory=dict)
    done: list[tuple[str, str]] = field(default_factory=list)
    """What was asked of it."""

    def status(self) -> dict[str, Any]:
        return self.shown

    def plugins(self) -> list[dict[str, Any]]:
        return [{"name": "first"}]

    def tools(self, profile: str = "") -> dict[str, Any]:
        if profile:
            raise UnknownProfile(profile, [])
        return {"tools": [1 / len(self.shown)]}

    def tool(self, name: str, profile: str = "") -> dict[str, Any]:
        return {"name": name, "profile": profile} if profile else {"name": name}

    async def reload(self) -> FakeReport:
        return await self._of_file("reload")

    async def compare(self) -> FakeReport:
        return await self._of_file("diff")

    async def restart(self) -> None:
        await self._of_file("restart")
        self.done.append(("restart", ""))

    async def _of_file(self, what: str) -> FakeReport:
        await asyncio.sleep(self.delay)
        if self.problem is not None:
            raise self.problem
        return FakeReport({"asked": what})

    @property
    def live(self) -> "FakeCalls":
        return FakeCalls(self.done)

    def reconnect(self, name: str) -> bool:
        self.done.append(("reconnect", name))
        return name == "files"

    @property
    def sessions(self) -> "FakeOperations":
        return self

    def listing(self) -> list[dict[str, Any]]:
        return [{"key": "k"}]

    def end_by_key(self, key: str) -> bool:
        self.done.append(("end", key))
        return key == "k"

    def clean(self, data: bytes) -> bytes:
        return data.replace(b"hush", b"[REDACTED]")


def plane_of(operations: FakeOperations, guard: HostGuard, token: str, *more: AnyEndpoint) -> ControlPlane:
    """A control plane with the endpoints of the gateway, and `more`. `token`: for everything; `READ` is the other."""
    operations.control = ControlPlane(
        lambda: (*table(operations), *more), operations, Access(token, READ, operations.browsers), guard
    )
    return operations.control


@dataclass
class Plane:
    operations: FakeOperations
    control: ControlPlane
    http: aiohttp.ClientSession

    def get(self, path: str, authorization: str | None = "Bearer sesame", method: str = "GET", **headers: str) -> Any:
        """Begin a request to `path`."""
        if authorization is not None:
            headers["Authorization"] = authorization
        return self.http.request(method, self.control.address + path, headers=headers)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection for them alone, and read until the control plane ends it."""
        reader, writer = await asyncio.open_connection(self.control.host, self.control.port)
        writer.write(data)
        try:
            async with asyncio.timeout(60):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Start control planes; they end with the test."""
    started: list[Plane] = []

    async def begin(token: str = "sesame", guard: HostGuard | None = None, *more: AnyEndpoint) -> Plane:
        operations = FakeOperations()
        control = plane_of(operations, guard or HostGuard("127.0.0.1", ["gateway.example.com"]), token, *more)
        await control.start("127.0.0.1", 0)
        started.append(Plane(operations, control, aiohttp.ClientSession()))
        return started[-1]

    yield begin
    for plane in started:
        await plane.http.close()
        await plane.control.close()


@pytest.fixture
async def plane(start: Any) -> Plane:
    found: Plane = await start()
    return found
