"""A crowd of agents: many sessions one after another, or many idle ones at once; what the gateway's memory becomes.

    python crowd.py                       # both
    python crowd.py lifecycles --count 100000
    python crowd.py idle --count 10000

`lifecycles`: agents initialize, call once and leave, half of them without DELETE. After a warm-up, the memory of the
gateway may grow by 5 %. `idle`: each agent has a session and an open event stream on which nothing happens; 10,000 may
cost 400 MB. Meanwhile another agent calls. The number of idle agents is bounded by the open files that the system
allows.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.ports import free_port

RAD: Final = Path(sys.executable).with_name("rad")
VERSION: Final = "2025-11-25"
NAMES: Final = 40
"""Names of the agents that live one after another; each keeps as many sessions as one principal may have."""
AT_ONCE: Final = 16
"""Agents that live at the same time."""
WARM_UP: Final = 0.1
"""Share of the lifecycles before the memory counts."""
GROWTH: Final = 1.05
EMPTY: Final = 100.0
PER_AGENT: Final = 0.03
"""Megabytes that the gateway may take without agents, and for each idle one."""
CALLS: Final = 2000
"""Calls among idle agents."""
SPARE: Final = 500
"""Open files that are left for everything but connections."""
ECHO: Final = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    info = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "e", "version": "1"}}
    tools = {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    results = {"initialize": info, "tools/list": tools, "tools/call": {"content": [{"type": "text", "text": "done"}]}}
    if "id" in message:
        found = results.get(message["method"])
        answer = {"result": found} if found else {"error": {"code": -32601, "message": "unknown"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""
CONFIG: Final = """
[mcp.proxy]
enable = true
port = {port}
max_connections = {connections}
[mcp.proxy.limits]
sessions = {sessions}
[mcp.proxy.security]
rate_limit_per_minute = 0
[[mcp.proxy.upstreams]]
name = "echo"
transport = "stdio"
command = {command}
args = ["-c", {code}]
"""


class Gateway:
    """A running gateway."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._status = Path(f"/proc/{pid}/status")

    @property
    def megabytes(self) -> float:
        """The resident memory of its process."""
        found = re.search(r"^VmRSS:\s+(\d+)", self._status.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024


@contextlib.contextmanager
def gateway(**settings: int) -> Iterator[Gateway]:
    """Start a gateway with one server; stop it at the end."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        config = Path(folder) / "mcp-proxy.toml"
        config.write_text(
            CONFIG.format(port=port, command=json.dumps(sys.executable), code=json.dumps(ECHO), **settings)
        )
        log = Path(folder) / "log"
        with log.open("wb") as output:
            command = [str(RAD), "mcp", "proxy", "start", "--config", str(config)]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            end = time.monotonic() + 60
            while b"listening" not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"the gateway did not start:\n{log.read_text()}")
                time.sleep(0.1)
            yield Gateway(process.pid, port)
        finally:
            process.terminate()
            process.wait(60)


class Agent:
    """A legacy agent on one connection."""

    def __init__(self, port: int, name: str) -> None:
        self._port = port
        self._name = name
        self._session = ""

    async def __aenter__(self) -> Agent:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        params = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": self._name, "version": "1"}}
        head, _ = await self.send({"id": 1, "method": "initialize", "params": params})
        found = re.search(rb"Mcp-Session-Id: (\S+)", head)
        assert found is not None, head
        self._session = f"Mcp-Session-Id: {found[1].decode()}\r\nMCP-Protocol-Version: {VERSION}\r\n"
        await self.send({"method": "notifications/initialized"})
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def _write(self, verb: str, body: bytes = b"", accept: str = "application/json") -> None:
        head = f"{verb} /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n{self._session}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self._writer.write(f"{head}\r\n".encode() + body)

    async def send(self, message: dict[str, Any]) -> tuple[bytes, bytes]:
        """POST a message; returns the head and the body of the response."""
        self._write("POST", json.dumps({"jsonrpc": "2.0", **message}).encode())
        return await self._response()

    async def _response(self) -> tuple[bytes, bytes]:
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 2"), head
        length = re.search(rb"Content-Length: (\d+)", head)
        return head, await self._reader.readexactly(int(length[1])) if length is not None else b""

    async def call(self) -> None:
        """Call the tool, and check the answer."""
        _, body = await self.send({"id": 2, "method": "tools/call", "params": {"name": "echo", "arguments": {}}})
        assert b'"done"' in body, body

    async def delete(self) -> None:
        """End the session."""
        self._write("DELETE")
        await self._response()

    async def listen(self) -> None:
        """Open the event stream."""
        self._write("GET", accept="text/event-stream")
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head

    @property
    def lost(self) -> bool:
        """Whether the gateway has closed the connection."""
        return self._reader.at_eof()


async def lifecycles(count: int) -> list[str]:
    """Let agents come and go; returns what went wrong."""
    with gateway(connections=100, sessions=10_000) as world:
        numbers = iter(range(count))
        warm_up = int(count * WARM_UP)
        samples: dict[int, float] = {}
        began = time.monotonic()

        async def live() -> None:
            for number in numbers:
                async with Agent(world.port, f"agent {number % NAMES}") as agent:
                    await agent.call()
                    if number % 2:
                        await agent.delete()
                if number % max(1, warm_up) == 0:
                    samples[number] = world.megabytes

        await asyncio.gather(*(live() for _ in range(AT_ONCE)))
        before = samples[warm_up] if warm_up in samples else next(iter(samples.values()))
        after = world.megabytes
    print("lifecycles:", ", ".join(f"{number}: {size:.1f} MB" for number, size in sorted(samples.items())))
    print(
        f"{count} lifecycles in {time.monotonic() - began:.0f} s: {before:.1f} MB after {warm_up} of them, "
        f"{after:.1f} MB at the end ({after / before - 1:+.1%})"
    )
    return [f"the memory grew by more than {GROWTH - 1:.0%}"] if after > before * GROWTH else []


async def idle(count: int) -> list[str]:
    """Let agents listen and do nothing; returns what went wrong."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    allowed = min(count, limit - SPARE)
    if allowed < count:
        print(f"the system allows {limit} open files, so there are {allowed} idle agents instead of {count}")
    with gateway(connections=allowed + 100, sessions=allowed + 100) as world:
        empty = world.megabytes
        async with contextlib.AsyncExitStack() as stack:
            agents: list[Agent] = []

            async def arrive(number: int) -> None:
                agent = await stack.enter_async_context(Agent(world.port, f"idle {number}"))
                await agent.listen()
                agents.append(agent)

            for start in range(0, allowed, AT_ONCE):
                await asyncio.gather(*(arrive(number) for number in range(start, min(start + AT_ONCE, allowed))))
            full = world.megabytes
            times = []
            async with Agent(world.port, "busy") as busy:
                for _ in range(CALLS):
                    began = time.perf_counter()
                    await busy.call()
                    times.append(1000 * (time.perf_counter() - began))
            lost = sum(agent.lost for agent in agents)
    times.sort()
    print(
        f"{allowed} idle agents: {empty:.1f} MB without them, {full:.1f} MB with them "
        f"({1024 * (full - empty) / allowed:.1f} KB each); {CALLS} calls among them: "
        f"p50 {times[CALLS // 2]:.1f} ms, p99 {times[CALLS * 99 // 100]:.1f} ms"
    )
    found = [f"{lost} idle agents lost their streams"] if lost else []
    if full > EMPTY + allowed * PER_AGENT:
        found.append(f"the memory is more than {EMPTY + allowed * PER_AGENT:.0f} MB")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("crowd", nargs="*", choices=["lifecycles", "idle", []], help="default: both")
    parser.add_argument("--count", type=int, help="default: 100000 lifecycles, 10000 idle agents")
    options = parser.parse_args()
    found = []
    if not options.crowd or "lifecycles" in options.crowd:
        found += asyncio.run(lifecycles(options.count or 100_000))
    if not options.crowd or "idle" in options.crowd:
        found += asyncio.run(idle(options.count or 10_000))
    if found:
        raise SystemExit("\n".join(["The crowd was too much:", *found]))


if __name__ == "__main__":
    main()
