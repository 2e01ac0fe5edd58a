"""The processes of a run: reference servers, and real gateways in front of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

HERE = Path(__file__).parent
RAD = Path(sys.executable).parent / "rad"
START_LIMIT = 30.0
STOP_LIMIT = 10.0
# Which interpreter, which module, which flags.
SERVERS = {
    "dual": (sys.executable, "dual.py"),
    "modern": (sys.executable, "modern.py"),
    "modern-without-result-type": (sys.executable, "modern.py", "--no-result-type"),
    "legacy": (str(HERE / ".venv" / "bin" / "python"), "legacy.py"),
}


class StageError(Exception):
    """Something did not start."""


def command(server: str, *more: str) -> list[str]:
    python, module, *flags = SERVERS[server]
    return [python, str(HERE / "servers" / module), *flags, *more]


class Stage:
    """The children of one pair; leaving it ends them, newest first. Their output is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            if child.poll() is None:
                child.terminate()
            try:
                child.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()

    def server(self, kind: str) -> str:
        """The URL of a reference server that listens."""
        child = self._start(kind, *command(kind, "--port", "0"))
        said = self.folder / f"{kind}.out"
        self._wait(child, kind, lambda: said.read_text().endswith("\n"))
        return said.read_text().strip()

    def gateway(self, upstreams: Sequence[dict[str, Any]]) -> str:
        """The URL of a gateway all of whose upstreams are healthy."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        # Replicas only when declared: every reference server offers the same, and here that shall be a clash of names.
        proxy = {"enable": True, "port": port, "replicas": "declared", "upstreams": list(upstreams)}
        config = self.folder / ".radium" / "mcp-proxy.toml"
        config.parent.mkdir(exist_ok=True)
        config.write_text(tomli_w.dumps({"mcp": {"proxy": {**proxy, "security": {"rate_limit_per_minute": 0}}}}))
        config.chmod(0o600)
        child = self._start("gateway", str(RAD), "mcp", "proxy", "start", "--config", str(config))
        self._wait(child, "gateway", lambda: _status(f"http://127.0.0.1:{port}/readyz") == 200)
        self._wait(child, "gateway", lambda: _states(config) == {"healthy"})
        return f"http://127.0.0.1:{port}/mcp"

    def _start(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.out").open("wb") as out, (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=log, start_new_session=True)
        self._children.append(child)
        return child

    def _wait(self, child: subprocess.Popen[bytes], name: str, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not holds():
            if child.poll() is not None or time.monotonic() > deadline:
                ended = "did not start in time" if child.poll() is None else f"ended with {child.returncode}"
                raise StageError(f"{name} {ended}; see {self.folder / name}.log")
            time.sleep(0.05)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _states(config: Path) -> set[str]:
    asked = [str(RAD), "mcp", "proxy", "status", "--config", str(config), "--json"]
    done = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=START_LIMIT, check=False)
    if done.returncode != 0:
        return set()
    return {str(upstream["state"]) for upstream in json.loads(done.stdout)["upstreams"]}
