"""Real `rad` child processes, each in a folder of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_core.cli import client
from gateway_core.cli.instance import Instance, read_instance
from gateway_core.cli.running import NotAnswering
from tests import ports
from tests.fork_server import Child, ForkServer

RAD = [sys.executable, "-m", "gateway_core.cli"]
SLOW = 60.0
"""Seconds that a busy machine may take for one step."""
CALCULATOR = Path(__file__).parents[1] / "servers" / "calculator.py"


@pytest.fixture
def free_port() -> int:
    return ports.free_port()


def configured(folder: Path, port: int, upstreams: str = "") -> Path:
    """The folder, with a configuration file."""
    config = folder / ".radium" / "mcp-proxy.toml"
    config.parent.mkdir()
    config.write_text(f"[mcp.proxy]\nenable = true\nport = {port}\n{upstreams}")
    config.chmod(0o600)
    return folder


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path, free_port: int) -> Path:
    """A folder with a configuration file that listens on a free port and has no upstream.

    For a test with `shared_gateway`: the folder of that.
    """
    if "shared_gateway" in request.fixturenames:
        shared: Path = request.getfixturevalue("shared_gateway")
        return shared
    return configured(tmp_path, free_port)


def upstream(name: str, url: str) -> str:
    return f'[[mcp.proxy.upstreams]]\nname = "{name}"\ntransport = "http"\nurl = "{url}"\n'


def status_of(folder: Path) -> dict[str, Any]:
    """What the gateway says about itself; empty if none runs. A busy one is asked again until it answers."""
    pid_file, deadline = folder / ".radium" / "mcp-proxy.pid", time.monotonic() + SLOW
    while isinstance(running := read_instance(pid_file), Instance) and running.control_port:
        try:
            return client.fetch(running, "status")
        except NotAnswering:
            assert time.monotonic() < deadline, "it runs and does not answer"
            time.sleep(0.05)
    return {}


def eventually(condition: Callable[[], object], seconds: float = SLOW) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def has_state(status: dict[str, Any], name: str, state: str = "healthy") -> bool:
    return (name, state) in [(one["name"], one["state"]) for one in status.get("upstreams", ())]


@pytest.fixture(scope="session")
def shared_gateway(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], calculator: str
) -> Iterator[Path]:
    """The folder of a running gateway for all tests that leave it, its file and its upstreams as they are.

    It has one upstream that answers, `calculator`, and one that does not, `gone`.
    """
    upstreams = upstream("calculator", calculator) + upstream("gone", "http://127.0.0.1:9/mcp")
    folder = configured(tmp_path_factory.mktemp("shared"), ports.free_port(), upstreams)
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*RAD, "mcp", "proxy", "start"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as gateway,
    ):
        try:
            eventually(lambda: has_state(status_of(folder), "calculator"), 120)
            yield folder
        finally:
            gateway.terminate()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    # With PYTHONDONTWRITEBYTECODE, each of these processes would compile the whole gateway again.
    dropped = ("RADIUM_", "COLUMNS", "PYTHONDONTWRITEBYTECODE")
    return {key: value for key, value in os.environ.items() if not key.startswith(dropped)}


@pytest.fixture(scope="session")
def fork_server(environment: dict[str, str]) -> Iterator[ForkServer]:
    server = ForkServer(environment)
    yield server
    server.close()


@pytest.fixture
def rad(
    project: Path, environment: dict[str, str], fork_server: ForkServer
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`rad("status", …)` runs `rad mcp proxy status …` in `project` to its end."""

    def run(*arguments: str | bytes, cwd: Path = project, **streams: object) -> subprocess.CompletedProcess[str]:
        streams = {"stdin": subprocess.DEVNULL, **streams}
        child = fork_server.start(["mcp", "proxy", *arguments], cwd=cwd, environment=environment, **streams)
        try:
            out, err = child.communicate(timeout=120)
        finally:
            child.kill()
        return subprocess.CompletedProcess(arguments, child.wait(), out, err)

    return run


@pytest.fixture
def spawn(project: Path, environment: dict[str, str], fork_server: ForkServer) -> Iterator[Callable[..., Any]]:
    """`spawn("calls")` begins `rad mcp proxy calls` in `project`; what still runs at the end is killed.

    `spawn("start")` starts Python, as a user does: keys that a gateway makes while it loads are not those of another.
    """
    children: list[subprocess.Popen[str] | Child] = []

    def begin(*arguments: str, **streams: object) -> subprocess.Popen[str] | Child:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        command = ["mcp", "proxy", *arguments]
        if arguments[0] == "start":
            child = subprocess.Popen([*RAD, *command], cwd=project, env=environment, text=True, **streams)
        else:
            child = fork_server.start(command, cwd=project, environment=environment, **streams)
        children.append(child)
        return child

    yield begin
    for child in children:
        if child.poll() is None:
            child.kill()
        child.communicate()


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition)`: until it is true, a minute at most."""
    return eventually


@pytest.fixture
def status(project: Path) -> Callable[[], dict[str, Any]]:
    """`status()`: what the gateway says about itself, without a process that asks; empty if none answers."""
    return lambda: status_of(project)


@pytest.fixture
def wait_for_upstream(status: Callable[[], dict[str, Any]]) -> Callable[..., None]:
    """`wait_for_upstream("calculator")`: until the gateway runs and the state of its upstream is `healthy`."""

    def wait(name: str = "calculator", state: str = "healthy") -> None:
        eventually(lambda: has_state(status(), name, state), 120)

    return wait


@pytest.fixture(scope="session")
def calculator(environment: dict[str, str]) -> Iterator[str]:
    """The URL of a server on the official SDK, with the tools add, slow and fail, that all tests share."""
    command = [sys.executable, str(CALCULATOR), "http"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture
def with_server(project: Path, calculator: str) -> Path:
    """`project` with one upstream: the shared server, over HTTP."""
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(upstream("calculator", calculator))
    return project


@pytest.fixture
def with_stdio_server(project: Path) -> Path:
    """`project` with one upstream: the same server as a child of the gateway, over stdio."""
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(
            '[[mcp.proxy.upstreams]]\nname = "calculator"\ntransport = "stdio"\n'
            f"command = '{sys.executable}'\nargs = ['{CALCULATOR}']\n"
        )
    return project
