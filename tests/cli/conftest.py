"""Real `rad` child processes, each in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ports

RAD = [sys.executable, "-m", "gateway_core.cli"]


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


@pytest.fixture
def project(tmp_path: Path, free_port: int) -> Path:
    """A folder with a configuration file that listens on a free port and has no upstream."""
    folder = tmp_path / ".radium"
    folder.mkdir()
    config = folder / "mcp-proxy.toml"
    config.write_text(f"[mcp.proxy]\nenable = true\nport = {free_port}\n")
    config.chmod(0o600)
    return tmp_path


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    # With PYTHONDONTWRITEBYTECODE, each of these processes would compile the whole gateway again.
    dropped = ("RADIUM_", "COLUMNS", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


@pytest.fixture
def rad(project: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`rad("status", …)` runs `rad mcp proxy status …` in `project` to its end."""

    def run(*arguments: str, cwd: Path = project, **options: object) -> subprocess.CompletedProcess[str]:
        command = [*RAD, "mcp", "proxy", *arguments]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=50, check=False, **options
        )

    return run


@pytest.fixture
def spawn(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`spawn("start")` begins `rad mcp proxy start` in `project`; what still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **options: object) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        child = subprocess.Popen([*RAD, "mcp", "proxy", *arguments], cwd=project, env=environment, text=True, **pipes)
        children.append(child)
        return child

    yield begin
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition)`: until it is true, 20 seconds at most."""

    def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.05)

    return wait


SERVER = """
import anyio
from mcp.server import MCPServer

server = MCPServer("calculator", version="1.0")

@server.tool()
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

@server.tool()
async def slow(seconds: float) -> str:
    "Take a while."
    await anyio.sleep(seconds)
    return "at last"

@server.tool()
def fail() -> str:
    "Always fails."
    raise ValueError("on purpose")

server.run("stdio")
"""


@pytest.fixture
def with_server(project: Path) -> Path:
    """`project` with one upstream: a stdio server on the official SDK, with the tools add, slow and fail."""
    script = project / "server.py"
    script.write_text(SERVER)
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(
            '[[mcp.proxy.upstreams]]\nname = "calculator"\ntransport = "stdio"\n'
            f"command = '{sys.executable}'\nargs = ['{script}']\n"
        )
    return project
