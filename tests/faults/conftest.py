"""Real `rad` processes over servers that break, and agents that count the outcome of every call."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w

from tests.page_kit import page
from tests.ports import connected, free_port

RAD = Path(sys.executable).with_name("rad")
WILD = Path(__file__).with_name("servers") / "wild.py"
META = "io.modelcontextprotocol/"
MODERN = "2026-07-28"


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def over_stdio(name: str, **more: Any) -> dict[str, Any]:
    """Settings of a wild upstream on stdio."""
    command = {"command": sys.executable, "args": [str(WILD), "stdio"]}
    return {"name": name, "transport": "stdio", **command, **more}


def over_http(name: str, url: str, **more: Any) -> dict[str, Any]:
    """Settings of an upstream over HTTP."""
    return {"name": name, "transport": "http", "url": url, **more}


def request(method: str, params: dict[str, Any], number: Any = 1) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and body of a modern request."""
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, "Accept": "application/json, text/event-stream"}
    headers["Content-Type"] = "application/json"
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    return headers, {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}


@dataclass
class Answer:
    """What an agent got for its call."""

    status: int
    headers: Any
    message: dict[str, Any]

    @property
    def text(self) -> str:
        """The text of a good result; "" for anything else."""
        result = self.message.get("result", {})
        return "" if result.get("isError") else "".join(part.get("text", "") for part in result.get("content", ()))

    @property
    def unknown(self) -> bool:
        """Whether the agent learned that the call may have been executed."""
        return 'outcome": "unknown"' in json.dumps(self.message)

    @property
    def code(self) -> int | None:
        return self.message.get("error", {}).get("code")


@dataclass
class Rad:
    """One running gateway, its agents' calls, and what its process holds."""

    config: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    inside: tuple[str, ...] = ()
    """The command that enters its network namespace; empty for the tests' namespace."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    @property
    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def answers(self, path: str = "/readyz") -> int:
        """The status of a GET; 0 if there is no answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def command(self, *arguments: str) -> Any:
        """The JSON that one of the gateway's commands prints."""
        command = [*self.inside, str(RAD), "mcp", "proxy", *arguments, "--json", "--config", str(self.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.startswith(("{", "[")), done.stderr
        return json.loads(done.stdout)

    def is_ready(self) -> bool:
        if not self.inside:
            return self.answers() == 200
        found = subprocess.run(
            [*self.inside, str(RAD), "mcp", "proxy", "status", "--config", str(self.config)],
            capture_output=True,
            timeout=60,
            check=False,
        )
        return found.returncode == 0

    def page(self, name: str) -> Any:
        """What the command `status` or `tools` gets from the gateway; a process only to enter its namespace."""
        if self.inside:
            return self.command(name)
        return page(self.config, name)

    def status(self) -> dict[str, dict[str, Any]]:
        """Name of each upstream -> its state and counters."""
        return {each["name"]: each for each in self.page("status")["upstreams"]}

    def wait_for(self, *names: str, state: str = "healthy") -> None:
        wait_until(lambda: all(self.status()[name]["state"] == state for name in names), f"{names} {state}")

    async def call(self, tool: str, http: aiohttp.ClientSession | None = None, **arguments: Any) -> Answer:
        """Call a tool as a modern agent, on a connection that this call opens unless `http` is given."""
        headers, body = request("tools/call", {"name": tool, "arguments": arguments})
        data: Any = io.BytesIO(json.dumps(body).encode())
        async with contextlib.AsyncExitStack() as stack:
            if http is None:
                http = await stack.enter_async_context(aiohttp.ClientSession())
            response = await stack.enter_async_context(http.post(self.url, headers=headers, data=data))
            data = await response.read()
        if response.content_type == "text/event-stream":
            data = next(line[5:] for line in reversed(data.splitlines()) if line.startswith(b"data:"))
        return Answer(response.status, response.headers, json.loads(data))

    def resident(self) -> int:
        """Bytes in memory."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * resource.getpagesize()

    def forget_peak(self) -> None:
        """Reset `peak` to the memory in use."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most bytes that were in memory at a time."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def processor_seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def family(self) -> set[int]:
        """Pids of all descendants that have not ended or were not reaped."""
        parents: dict[int, int] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    stat = Path(f"/proc/{entry}/stat").read_text()
                    parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
        found = {self.process.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found - {self.process.pid}


@dataclass
class Bystanders:
    """Calls that go on while something breaks; every one of them must succeed."""

    rad: Rad
    tools: tuple[str, ...]
    seconds: float = 0.4
    each: int = 10
    done: list[Answer] = field(default_factory=list)

    async def __aenter__(self) -> Bystanders:
        self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._tasks = [
            asyncio.create_task(self.rad.call(tool, self._http, seconds=self.seconds))
            for tool in self.tools
            for _ in range(self.each)
        ]
        await asyncio.sleep(0.1)  # let them be in flight
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.done = await asyncio.gather(*self._tasks)
        await self._http.close()
        assert [answer.text for answer in self.done] == ["ok"] * len(self._tasks)


class Started:
    """What one scope of tests has started; `end` ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self._servers: dict[int, subprocess.Popen[bytes]] = {}

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, start_new_session=True, **options)
        self.running.append(process)
        return process

    def server(
        self, name: str, port: int = 0, host: str = "127.0.0.1", inside: tuple[str, ...] = ()
    ) -> tuple[str, Path]:
        """Start a wild server over HTTP: (its URL, its journal)."""
        journal = self.folder / f"{name}.journal"
        command = (*inside, sys.executable, str(WILD), "http", str(port), str(journal), host)
        process = self.popen(*command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        port = int(process.stdout.readline())
        self._servers[port] = process
        return f"http://{host}:{port}/mcp", journal

    def stop_server(self, port: int) -> None:
        """Kill the server at a port."""
        self._servers[port].kill()
        self._servers[port].wait(60)
        wait_until(lambda: not connected(port), "the connections to the server are closed")

    def gateway(
        self,
        upstreams: list[dict[str, Any]],
        *,
        of_process: dict[int, int] | None = None,
        env: dict[str, str] | None = None,
        inside: tuple[str, ...] = (),
        **settings: Any,
    ) -> Rad:
        """Start a gateway that prefixes every tool. `of_process`: its resource limits; `inside`: see `Rad`."""
        folder = self.folder / f"gateway{len(self.running)}" / ".radium"
        folder.mkdir(parents=True)
        config, log, port = folder / "mcp-proxy.toml", folder / "output.log", free_port()
        settings = {"plugins": [{"name": "conflict_autoprefix", "prefix": "always"}], **settings}
        proxy = {"enable": True, "port": port, **settings, "upstreams": upstreams}
        config.write_text(tomli_w.dumps({"mcp": {"proxy": proxy}}))
        config.chmod(0o600)

        def limit() -> None:
            for kind, value in (of_process or {}).items():
                resource.setrlimit(kind, (value, value))

        with log.open("wb") as output:
            process = self.popen(
                *(*inside, str(RAD), "mcp", "proxy", "start", "--config", str(config)),
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                preexec_fn=limit,
            )
        rad = Rad(config, port, process, log, inside)
        wait_until(lambda: rad.is_ready() or process.poll() is not None, "the gateway is ready")
        assert process.poll() is None, rad.text
        return rad

    def end(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(60)
            if process.stdout is not None:
                process.stdout.close()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    processes = Started(tmp_path)
    yield processes
    processes.end()


@pytest.fixture(scope="session")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    processes = Started(tmp_path_factory.mktemp("faults"))
    yield processes
    processes.end()
