"""A gateway with agents of both eras on each transport, over servers whose calls end in every way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import loads
from gateway_core.gateway import Gateway
from gateway_core.limits.budget import MemoryBudget
from tests.ports import free_port

ENDS = Path(__file__).with_name("ends.py")
BURST = 40
"""Calls of one tool before the rate limit refuses more."""
CONFIG = """
[mcp.proxy]
enable = true
port = {port}
{transport}

[mcp.proxy.limits]
request_body = {limit}

[[mcp.proxy.upstreams]]
name = "main"
{main}

[[mcp.proxy.upstreams]]
name = "slow"
timeout = 0.3
{slow}

[[mcp.proxy.upstreams]]
name = "frail"
transport = "stdio"
command = "{python}"
args = ["{ends}", "stdio", "frail", "{flag}"]

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
prefix = "always"

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = 1
burst = {burst}

[[mcp.proxy.plugins]]
name = "security_redact"

[[mcp.proxy.plugins]]
name = "judge"

[[mcp.proxy.plugins]]
name = "slow_judge"
"""
LIMIT = 1_200_000
"""Bytes of a request."""
JUDGE = """
from gateway_core import CallResult, Reject, hookimpl
from gateway_core.errors import RpcError
from gateway_core.api import Outcome


class Judge:
    methods = frozenset({"tools/call"})

    @hookimpl
    def before_call(self, call):
        end = call.arguments.get("end", "")
        if end == "refuse":
            return Reject("not today")
        if end == "catch":
            try:
                raise RpcError(-32000, "caught")
            except RpcError as error:
                result = CallResult(error=error, outcome=Outcome.ERROR)
            return result
        if end == "raise before":
            raise ValueError(call.arguments)

    @hookimpl
    def after_call(self, call, result):
        if call.arguments.get("end", "") == "raise after":
            raise ValueError(call.arguments)


class SlowJudge:
    methods = frozenset({"tools/call"})

    @hookimpl
    async def before_call(self, call):
        if call.arguments.get("end", "") == "raise late":
            raise ValueError(call.arguments)
        if call.arguments.get("end", "") == "refuse late":
            return Reject("not today")

    @hookimpl
    async def after_call(self, call, result):
        if call.arguments.get("end", "") == "raise late after":
            raise ValueError(call.arguments)
"""


class Agent:
    """An agent: `send` a request, and `receive` the next answer."""

    hangs_up = False
    """Whether the gateway ends the connection that had too much to read."""
    budget: MemoryBudget
    """The gateway's memory budget."""

    def __init__(self, era: str) -> None:
        self.era = era
        self.id = 0

    def message(self, method: str, params: dict[str, Any], *, request: bool = True) -> dict[str, Any]:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if request:
            self.id += 1
            message["id"] = self.id
        if self.era == "modern":
            message["params"] = {
                **params,
                "_meta": {
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                },
            }
        return message

    def initialize(self) -> dict[str, Any]:
        client = {"name": self.era, "version": "1"}
        return self.message("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})

    async def open(self) -> None:
        """Have a connection, and a session in the legacy era."""

    async def send(self, message: dict[str, Any]) -> None:
        name = message["params"].get("name", "")
        await self.post(json.dumps(message, separators=(",", ":")).encode(), message["method"], name)

    async def post(self, body: bytes, method: str = "tools/call", name: str = "main__ok") -> None:
        """Send a body, with these in the headers where there are any."""
        raise NotImplementedError

    async def receive(self) -> bytes:
        raise NotImplementedError

    async def give_up(self) -> None:
        """Cancel the last request, and wait until the gateway has seen it."""
        await self.send(self.message("notifications/cancelled", {"requestId": self.id}, request=False))

    async def call(self, tool: str, **arguments: Any) -> bytes:
        await self.send(self.message("tools/call", {"name": tool, "arguments": arguments}))
        return await self.receive()

    async def close(self) -> None:
        """Leave."""


class HttpAgent(Agent):
    hangs_up = True

    def __init__(self, era: str, port: int) -> None:
        super().__init__(era)
        self.port = port
        self.session = b""

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        if self.era == "legacy" and not self.session:
            await self.send(self.initialize())
            head, _ = await self.answer()
            name = b"Mcp-Session-Id: "
            self.session = next(line for line in head.split(b"\r\n") if line.startswith(name)) + b"\r\n"
            await self.send(self.message("notifications/initialized", {}, request=False))
            await self.answer()

    async def post(self, body: bytes, method: str = "tools/call", name: str = "main__ok") -> None:
        headers = self.session
        if self.era == "modern":
            version = "MCP-Protocol-Version: 2026-07-28\r\n"
            headers = f"{version}Mcp-Method: {method}\r\nMcp-Name: {name}\r\n".encode()
        head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json, text/event-stream\r\n"
        size = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.writer.write(head + headers + size + body)
        await self.writer.drain()

    async def answer(self) -> tuple[bytes, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")]
        if lengths:
            return head, await self.reader.readexactly(int(lengths[0].partition(b" ")[2]))
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return head, body

    async def receive(self) -> bytes:
        return (await self.answer())[1]

    async def give_up(self) -> None:
        if self.era == "modern":
            await self.close()
            await self.open()
        else:
            reader, writer = self.reader, self.writer
            await self.open()
            await super().give_up()
            await self.answer()
            await self.close()
            self.reader, self.writer = reader, writer
            assert b"cancelled" in await self.receive()

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class SseAgent(HttpAgent):
    hangs_up = False
    refused = False
    """Whether the last message was, which is said by the status of its POST alone."""

    async def open(self) -> None:
        self.reader, self.stream = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        self.stream.write(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
        await self.reader.readuntil(b"\r\n\r\n")
        self.path = b"/" + await self.receive()  # relative to /sse
        await self.send(self.initialize())
        await self.receive()
        await self.send(self.message("notifications/initialized", {}, request=False))

    async def post(self, body: bytes, method: str = "tools/call", name: str = "main__ok") -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**22)
        head = (
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
            % self.path
        )
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        status = await reader.readline()
        self.refused = b" 202 " not in status
        writer.close()
        await writer.wait_closed()

    async def receive(self) -> bytes:
        if self.refused:
            self.refused = False
            return b'"error":'
        while not (line := await self.reader.readline()).startswith(b"data: "):
            assert line, "the stream ended"
        return line[6:].strip()

    async def give_up(self) -> None:
        await Agent.give_up(self)

    async def close(self) -> None:
        self.stream.close()
        await self.stream.wait_closed()


class StdioAgent(Agent):
    def __init__(self, era: str, gateway: Gateway) -> None:
        super().__init__(era)
        self.gateway = gateway

    async def open(self) -> None:
        stdin, out = os.pipe()
        into, stdout = os.pipe()
        self.descriptors = (stdin, stdout)
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=2**22)
        self.reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.reader), os.fdopen(into, "rb", buffering=0)
        )
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(out, "wb", buffering=0)
        )
        self.writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self.serving = asyncio.create_task(self.gateway.downstream.stdio_server(stdin, stdout).run())
        if self.era == "legacy":
            await self.send(self.initialize())
            await self.receive()
            await self.send(self.message("notifications/initialized", {}, request=False))

    async def post(self, body: bytes, method: str = "tools/call", name: str = "main__ok") -> None:
        self.writer.write(body + b"\n")
        await self.writer.drain()

    async def receive(self) -> bytes:
        return await self.reader.readline()

    async def close(self) -> None:
        self.writer.close()
        await self.serving
        self.reading.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.fixture(scope="session")
def _judges(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two installed plugins that raise and refuse."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "payload_judges.py").write_text(JUDGE)
    info = folder / "payload_judges-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: payload-judges\nVersion: 1\n")
    points = "judge = payload_judges:Judge\nslow_judge = payload_judges:SlowJudge\n"
    (info / "entry_points.txt").write_text(f"[gateway_core]\n{points}")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def http_server() -> Iterator[str]:
    """The URL of the server over HTTP."""
    process = subprocess.Popen([sys.executable, str(ENDS), "http"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


Open = Callable[[str, str, str], Awaitable[Agent]]


@pytest.fixture
async def open_agent(tmp_path: Path, http_server: str, _judges: None) -> AsyncIterator[Open]:
    """Open an agent of an era, on a transport, of a gateway whose upstreams use another one."""
    ends: list[Any] = []

    async def begin(era: str, transport: str, upstream: str) -> Agent:
        port = free_port()

        def settings(name: str) -> str:
            if upstream == "http":
                return f'transport = "http"\nurl = "{http_server}/{name}"'
            return f'transport = "stdio"\ncommand = "{sys.executable}"\nargs = ["{ENDS}", "stdio", "{name}"]'

        text = CONFIG.format(
            transport='transport = "sse"' if transport == "sse" else "",
            main=settings("main"),
            slow=settings("slow"),
            python=sys.executable,
            ends=ENDS,
            flag=tmp_path / "died",
            port=port,
            limit=LIMIT,
            burst=BURST,
        )
        gateway = Gateway(loads(text, tmp_path / "mcp-proxy.toml"))
        await gateway.start()
        ends.append(gateway.stop)
        await gateway.wait_first_discovery()
        agent: Agent
        if transport == "stdio":
            agent = StdioAgent(era, gateway)
        else:
            agent = SseAgent(era, port) if transport == "sse" else HttpAgent(era, port)
        agent.budget = gateway.budget
        await agent.open()
        ends.append(agent.close)
        return agent

    yield begin
    for end in reversed(ends):
        await end()
