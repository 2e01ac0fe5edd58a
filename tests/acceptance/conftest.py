"""Real `rad` processes over real servers, each on ports of its own, all ended by the fixtures that started them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway_core.errors import GatewayError
from tests.page_kit import page
from tests.ports import connected, free_port
from tests.servers.forks import Fork

SERVERS = Path(__file__).with_name("servers")
RAD = Path(sys.executable).with_name("rad")


def wait_until(condition: Callable[[], bool], seconds: float = 100.0, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds} s"
        time.sleep(0.05)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Recorder:
    """A recording server that can be killed and started again on its port."""

    def __init__(self, name: str, folder: Path, *, legacy: bool = False) -> None:
        self.name, self.port, self.journal, self._legacy = name, free_port(), folder / f"{name}.journal", legacy
        self.process: Fork | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        mode = ["legacy"] if self._legacy else []
        self.process = Fork(SERVERS / "recorder.py", self.name, str(self.port), self.journal, *mode)

    def ready(self) -> None:
        wait_until(lambda: listening(self.port), what=f"server {self.name}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)
        wait_until(lambda: not connected(self.port), what=f"the end of the connections to {self.name}")

    def begun(self) -> list[str]:
        """Ids of the calls that it began to execute, in order."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [line.removeprefix("begin ") for line in lines if line.startswith("begin ")]


@dataclass
class Rad:
    """One `rad mcp proxy start`, and its command line for the same file."""

    config: Path
    port: int
    process: subprocess.Popen[str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return rad(*arguments, "--config", str(self.config))

    def page(self, name: str) -> dict[str, Any]:
        """What the command `status` or `tools` gets from the gateway, without a process for the command."""
        return page(self.config, name)

    def status(self) -> dict[str, Any]:
        return self.page("status")

    def is_healthy(self, *names: str) -> bool:
        """Whether upstreams, or all of them, are healthy; on a busy machine the control plane may not answer yet."""
        try:
            states = {item["name"]: item["state"] for item in self.status()["upstreams"]}
        except GatewayError:
            return False
        return all(states[name] == "healthy" for name in names or states)

    def upstream(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(item for item in self.status()["upstreams"] if item["name"] == name)
        return found


def rad(*arguments: str, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(RAD), "mcp", "proxy", *arguments], capture_output=True, text=True, timeout=timeout, check=False, **options
    )


@contextlib.contextmanager
def recorders(folder: Path) -> Iterator[Callable[..., Recorder]]:
    """A function that starts recording servers: `start("a", legacy=True)`."""
    started: list[Recorder] = []

    def start(name: str, *, legacy: bool = False, wait: bool = True) -> Recorder:
        server = Recorder(name, folder, legacy=legacy)
        started.append(server)
        server.start()
        if wait:
            server.ready()
        return server

    yield start
    for server in started:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@contextlib.contextmanager
def gateways(parent: Path) -> Iterator[Callable[..., Rad]]:
    """A function that starts gateways, and waits until they are ready; `{port}` in the TOML becomes a free port."""
    started: list[Rad] = []

    def start(toml: str, *, env: dict[str, str] | None = None, wait: bool = True) -> Rad:
        folder = parent / f"gateway{len(started)}" / ".radium"
        folder.mkdir(parents=True)
        port = free_port()
        config = folder / "mcp-proxy.toml"
        config.write_text(toml.replace("{port}", str(port)))
        log = folder / "output.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(RAD), "mcp", "proxy", "start", "--config", str(config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )
        running = Rad(config, port, process, log)
        started.append(running)
        if wait:
            wait_until(lambda: running.ready() or process.poll() is not None, what="the gateway")
            assert process.poll() is None, log.read_text()
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(20)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    running.process.kill()
                running.process.wait(60)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    """Starts servers that end with the test."""
    with recorders(tmp_path) as start:
        yield start


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Rad]]:
    """Starts gateways that end with the test."""
    with gateways(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_recorder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Recorder]]:
    """Starts servers for all tests of a module."""
    with recorders(tmp_path_factory.mktemp("servers")) as start:
        yield start


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Rad]]:
    """Starts gateways for all tests of a module."""
    with gateways(tmp_path_factory.mktemp("gateways")) as start:
        yield start
