"""The gateway as process 1 of a container: another uid, a read-only configuration, orphans, probes, the end.

Namespaces make the container, so that no container runtime has to be installed.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from tests.ports import free_port

RAD = Path(sys.executable).with_name("rad")
SERVERS = Path(__file__).with_name("servers")
pytestmark = pytest.mark.timeout(180)

UID = 1000
"""The uid of the gateway inside."""
OWNER = 4321
"""The uid outside to which the configuration belongs; only root can give a file away."""
BECOME_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
NAMESPACES = ["unshare", *BECOME_ROOT, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
INSIDE = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
OTHER_UID = ["unshare", "--user", f"--map-user={UID}", f"--map-group={UID}"]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about"
        time.sleep(0.05)


def _why_not() -> str:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "needs unshare of util-linux"
    tried = subprocess.run([*NAMESPACES, *OTHER_UID, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"namespaces are not allowed here: {tried.stderr.strip()}"


@dataclass
class Container:
    """A started container."""

    outer: subprocess.Popen[str]
    config: Path
    port: int

    def inside(self) -> dict[int, tuple[str, str]]:
        """The processes of the container by their pids outside: state and name."""
        found = {}
        with contextlib.suppress(OSError):
            self._namespace = os.readlink(f"/proc/{self.first()}/ns/pid")
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns" / "pid") == self._namespace:
                    name, _, rest = (folder / "stat").read_text().partition(" (")[2].rpartition(") ")
                    found[int(folder.name)] = (rest.split()[0], name)
        return found

    def first(self) -> int:
        """The pid outside of process 1."""
        return int(Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text().split()[0])

    def get(self, path: str, host: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Host": host})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()

    def ready(self) -> bool:
        try:
            return self.get("/readyz", "10.1.2.3:8080")[0] == 200
        except OSError:
            return False

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as `kubectl exec` does."""
        entered = ["nsenter", f"--target={self.first()}", "--mount", "--pid", "--user", "--preserve-credentials"]
        command = [*entered, str(RAD), "mcp", "proxy", *arguments, "--config", str(self.config)]
        env = {**os.environ, **_environment(self.config.parents[1])}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    def states(self) -> dict[str, str]:
        """The states of the upstreams, as a command in the container shows them."""
        status = json.loads(self.run("status", "--json").stdout)
        return {one["name"]: one["state"] for one in status["upstreams"]}


def _environment(home: Path, *, trusting: bool = True) -> dict[str, str]:
    return {"HOME": str(home), "XDG_STATE_HOME": "", "RADIUM_TRUST_CONFIG": "1" if trusting else "", "SPAWNER": "true"}


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    if reason := _why_not():
        pytest.skip(reason)
    begun: list[Container] = []

    def begin(*, trusting: bool = True) -> Container:
        port = free_port()
        folder = tmp_path / "config"
        folder.mkdir()
        config = folder / "mcp-proxy.toml"
        config.write_text(
            f'[mcp.proxy]\nenable = true\nport = "${{GATEWAY_PORT:-{port}}}"\non_missing = "skip"\n'
            '[[mcp.proxy.upstreams]]\nname = "spawner"\ntransport = "stdio"\nenabled = "${SPAWNER}"\n'
            f"command = '{sys.executable}'\nargs = ['{SERVERS / 'spawner.py'}']\n"
            '[[mcp.proxy.upstreams]]\nname = "later"\ntransport = "http"\nurl = "${NOT_SET_IN_THIS_CONTAINER}"\n'
        )
        if os.geteuid() == 0:
            os.chown(config, OWNER, OWNER)
            os.chown(folder, OWNER, OWNER)
        start = [str(RAD), "mcp", "proxy", "start", "--config", str(config)]
        outer = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", INSIDE, "sh", str(folder), *OTHER_UID, *start],
            env={**os.environ, **_environment(tmp_path, trusting=trusting)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(Container(outer, config, port))
        return begun[-1]

    yield begin
    for one in begun:
        one.outer.kill()  # its process 1 is killed with it
        one.outer.communicate()


async def test_a_container_starts_serves_reaps_and_ends(container: Callable[..., Container], tmp_path: Path) -> None:
    running = container()
    wait_until(lambda: running.ready() or running.outer.poll() is not None, what="the gateway")
    assert running.outer.poll() is None, running.outer.communicate()[1]
    assert running.get("/healthz", "gateway.default.svc") == (200, b'{"status":"ok"}')

    async with Client(f"http://127.0.0.1:{running.port}/mcp") as agent:
        result = await agent.call_tool("leave", {})
    assert f"of uid {UID}" in result.content[0].text
    wait_until(lambda: _names(running).count("sleep") == 1, what="the end of the short process")
    wait_until(lambda: "Z" not in {state for state, _ in running.inside().values()}, what="the end of all zombies")

    (folder,) = (tmp_path / ".local" / "state" / "radium").iterdir()
    wait_until(lambda: {path.suffix for path in folder.iterdir()} >= {".pid", ".names"}, what="the names file")
    if os.geteuid() == 0:
        expected = {"spawner": "healthy", "later": "misconfigured"}
        wait_until(lambda: running.states() == expected, what="the server's next process, seen from inside")

    outside = subprocess.run(
        [str(RAD), "mcp", "proxy", "stop", "--config", str(running.config), "--state-dir", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (outside.returncode, "in another one: ask it there" in outside.stderr) == (1, True), outside.stderr

    os.kill(running.first(), signal.SIGTERM)
    _, err = running.outer.communicate(timeout=60)
    assert running.outer.returncode == 0, err
    assert running.inside() == {}
    assert not (folder / "mcp-proxy.pid").exists()
    assert list(running.config.parent.iterdir()) == [running.config]


def _names(running: Container) -> list[str]:
    return [name for state, name in running.inside().values() if state != "Z"]


async def test_an_agent_may_start_the_container_and_speak_over_stdio(
    container: Callable[..., Any], tmp_path: Path
) -> None:
    del container  # only for its reason to skip
    config = tmp_path / "mcp-proxy.toml"
    config.write_text(
        '[mcp.proxy]\nenable = true\n[[mcp.proxy.upstreams]]\nname = "spawner"\ntransport = "stdio"\n'
        f"command = '{sys.executable}'\nargs = ['{SERVERS / 'spawner.py'}']\n"
    )
    inside = [*NAMESPACES[1:], str(RAD), "mcp", "proxy", "start", "--stdio", "--config", str(config)]
    parameters = StdioServerParameters(command="unshare", args=inside, env={**os.environ})
    async with Client(parameters) as agent:
        result = await agent.call_tool("leave", {})
        assert "from process" in result.content[0].text
        wait_until(lambda: _first_of(config) is not None, what="process 1")
        first = _first_of(config)
    wait_until(lambda: not Path(f"/proc/{first}").exists(), what="the end of process 1, after its agent closed stdin")


def _first_of(config: Path) -> int | None:
    """The pid outside of the process 1 that serves this file."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            pids = re.search(r"^NSpid:.*\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)
            if str(config).encode() in command and pids is not None and pids[1] == "1":
                return int(folder.name)
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_configuration_is_refused_with_the_way_out(container: Callable[..., Container]) -> None:
    running = container(trusting=False)
    _, err = running.outer.communicate(timeout=60)
    assert running.outer.returncode == 2
    assert "belongs to another user" in err
    assert "RADIUM_TRUST_CONFIG=1" in err


def test_detaching_would_end_the_container(container: Callable[..., Any], tmp_path: Path) -> None:
    del container  # only for its reason to skip
    config = tmp_path / "mcp-proxy.toml"
    config.write_text("[mcp.proxy]\nenable = true\n")
    command = [*NAMESPACES, str(RAD), "mcp", "proxy", "start", "--detach", "--config", str(config)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, "process 1" in found.stderr) == (2, True), found.stderr
