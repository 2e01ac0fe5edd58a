"""State and helpers of the tour's steps: folder, processes, and terminal output."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
from mcp.client.client import Client
from rich.console import Console
from rich.markup import escape

from gateway_core.demo.processes import Children

RAD: Final = (sys.executable, "-P", "-m", "gateway_core.cli", "mcp", "proxy")
CALLS_PER_MINUTE: Final = 8
PATIENCE: Final = 15.0
"""Seconds that any operation may take, generous for slow machines."""
QUICK: Final = aiohttp.ClientTimeout(total=2)
# JSON strings are valid TOML strings, so `json.dumps` quotes the paths.
CONFIGURATION: Final = """\
[mcp.proxy]
enable = true
port = {port}
log = {{ file = {log} }}

[[mcp.proxy.upstreams]]
name = "toolbox"
transport = "stdio"
command = {python}
args = ["-P", "-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.upstreams]]
name = "primary"
transport = "http"
url = "http://127.0.0.1:{primary}/mcp"
priority = 1
health_check_interval = 1

[[mcp.proxy.upstreams]]
name = "backup"
transport = "http"
url = "http://127.0.0.1:{backup}/mcp"
priority = 2
health_check_interval = 1

[[mcp.proxy.plugins]]
name = "routing_priority"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = {limit}

[[mcp.proxy.plugins]]
name = "security_redact"
"""


class StepFailed(Exception):
    """A step of the tour had an unexpected result; the message names the expected and the actual one."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"expected {expected}, got {got}")


def expect(expected: str, holds: bool, got: object) -> None:
    """Raise `StepFailed` unless `holds` is true."""
    if not holds:
        raise StepFailed(expected, got)


class Stage:
    """The folder, configuration and processes of one run."""

    def __init__(self, console: Console, folder: Path, children: Children) -> None:
        self.console = console
        self.children = children
        self.config = folder / ".radium" / "mcp-proxy.toml"
        self.log = folder / "gateway.log"
        self.servers: dict[str, asyncio.subprocess.Process] = {}
        self.ports: dict[str, int] = {}
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self.console.print(f"\n[bold cyan]{self._steps}. {escape(title)}[/]", highlight=False)

    def say(self, text: str) -> None:
        """Print one event of this step."""
        self.console.print(f"   {escape(text)}", highlight=False)

    def show(self, text: str) -> None:
        """Print an excerpt from a file or a log."""
        for line in text.strip().splitlines():
            self.console.print(f"   [dim]|[/] {escape(line)}", highlight=False)

    async def start_server(self, name: str, port: int) -> None:
        """Start an instance of `http_server` and record its process and port; port 0 takes a free port."""
        command = (sys.executable, "-P", "-m", "gateway_core.demo.http_server", "--name", name, "--port", str(port))
        server = await self.children.start(name, command, piped=True)
        address = await self.children.first_line(server, PATIENCE)
        expect(f"{name} to print its address", "http://" in address, address or self.children.errors(name))
        self.servers[name] = server
        self.ports[name] = int(address.rsplit(":", 1)[1].split("/")[0])
        self.say(f"started {address} (process {server.pid})")

    def write_config(self, port: int) -> None:
        """Write the gateway's configuration for the running servers."""
        text = CONFIGURATION.format(
            port=port,
            log=json.dumps(str(self.log)),
            python=json.dumps(sys.executable),
            primary=self.ports["primary"],
            backup=self.ports["backup"],
            limit=CALLS_PER_MINUTE,
        )
        self.config.parent.mkdir()
        self.config.write_text(text)
        self.config.chmod(0o600)

    @property
    def options(self) -> tuple[str, ...]:
        """Options of commands for the gateway of the demo; they override the environment."""
        return "--config", str(self.config), "--state-dir", str(self.config.parent)

    async def admin(self, what: str) -> Any:
        """The report of the gateway on `status` or `tools`, as `rad mcp proxy WHAT --json` prints it."""
        instance = json.loads(self.config.with_suffix(".pid").read_text())
        headers = {"Authorization": f"Bearer {instance['token']}"}
        url = f"http://127.0.0.1:{instance['control_port']}/admin/{what}"
        async with aiohttp.ClientSession(timeout=QUICK, headers=headers) as session, session.get(url) as answer:
            return await answer.json()

    async def stop(self) -> None:
        """Run `rad mcp proxy stop`."""
        child = await self.children.start("stop", (*RAD, "stop", *self.options))
        try:
            async with asyncio.timeout(PATIENCE):
                code = await child.wait()
        except TimeoutError:
            raise StepFailed("`rad mcp proxy stop` to end", "no end") from None
        expect("`rad mcp proxy stop` to succeed", code == 0, self.children.errors("stop"))

    async def until(
        self, what: str, holds: Callable[[], Awaitable[bool]], possible: Callable[[], bool] = lambda: True
    ) -> None:
        """Wait until `holds` is true. Raises `StepFailed` after `PATIENCE`, or once `possible` is false."""
        deadline = time.monotonic() + PATIENCE
        while not await holds():
            if time.monotonic() > deadline or not possible():
                raise StepFailed(what, f"nothing of it.\n{self.children.errors('gateway')}")
            await asyncio.sleep(0.1)

    def logged(self, *words: str) -> str:
        """The first line of the gateway's log that contains all `words`; empty if there is none."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return next((line for line in lines if all(word in line for word in words)), "")

    def log_tail(self) -> str:
        """The last twelve lines of the gateway's log, shown after a failure."""
        return "\n".join(self.log.read_text().splitlines()[-12:]) if self.log.exists() else ""


async def call(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and return its structured content. Raises `StepFailed` (tool error), `MCPError` (protocol error)."""
    result = await client.call_tool(name, arguments)
    expect(f"{name} to succeed", not result.is_error and result.structured_content is not None, result.content)
    return result.structured_content or {}


async def is_ready(url: str) -> bool:
    try:
        async with aiohttp.ClientSession(timeout=QUICK) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
