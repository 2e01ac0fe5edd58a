"""Real `rad` processes over real servers, each on ports of its own, all ended by the fixtures that started them."""

import contextlib
import json
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

from tests.ports import free_port

SERVERS = Path(__file__).with_name("servers")
RAD = Path(sys.executable).with_name("rad")


def wait_until(condition: Callable[[], bool], seconds: float = 30.0, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds} s"
        time.sleep(0.05)


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Recorder:
    """A recording server that can be killed and started again on its port."""

    def __init__(self, name: str, folder: Path, *, legacy: bool = False) -> None:
        self.name, self.port, self.journal, self._legacy = name, free_port(), folder / f"{name}.journal", legacy
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        mode = ["legacy"] if self._legacy else []
        command = [sys.executable, str(SERVERS / "recorder.py"), self.name, str(self.port), str(self.journal), *mode]
        self.process = subprocess.Popen(command, start_new_session=True)

    def ready(self) -> None:
        wait_until(lambda: listening(self.port), what=f"server {self.name}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

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
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return rad(*arguments, "--config", str(self.config))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def is_healthy(self, name: str) -> bool:
        """Whether `status` says that of an upstream; on a busy machine it may not answer in time."""
        shown = self.run("status", "--json").stdout
        return bool(shown) and {"healthy"} == {
            item["state"] for item in json.loads(shown)["upstreams"] if item["name"] == name
        }

    def upstream(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(item for item in self.status()["upstreams"] if item["name"] == name)
        return found


def rad(*arguments: str, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(RAD), "mcp", "proxy", *arguments], capture_output=True, text=True, timeout=timeout, check=False, **options
    )


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    """Start a recording server: `recorder("a", legacy=True)`."""
    started: list[Recorder] = []

    def start(name: str, *, legacy: bool = False, wait: bool = True) -> Recorder:
        server = Recorder(name, tmp_path, legacy=legacy)
        started.append(server)
        server.start()
        if wait:
            server.ready()
        return server

    yield start
    for server in started:
        if server.process is not None and server.process.poll() is None:
            server.kill()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Rad]]:
    """Start the gateway with a TOML; `{port}` in it becomes a free port. Waits until it is ready."""
    started: list[Rad] = []

    def start(toml: str, *, env: dict[str, str] | None = None, wait: bool = True) -> Rad:
        folder = tmp_path / f"gateway{len(started)}" / ".radium"
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
                running.process.wait(10)
