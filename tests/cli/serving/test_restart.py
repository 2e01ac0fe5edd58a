"""`restart`, with real processes."""

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway_core.cli.instance import Inherited, Instance, acquire, pid_file, read_instance
from gateway_core.cli.report import Failed
from gateway_core.cli.serving import restart
from gateway_core.cli.serving.launch import Launch
from gateway_core.control.access import PAGE_KEY
from gateway_core.errors import ReloadRefused
from tests import ports

pytestmark = pytest.mark.timeout(300)
SLOW = 60.0
"""Seconds that a busy machine may take for one step."""


@pytest.fixture
def config(project: Path) -> Path:
    return project / ".radium" / "mcp-proxy.toml"


@pytest.fixture
def running(config: Path) -> Any:
    """`running()`: what the pid file says."""

    def read() -> Instance:
        found = read_instance(config.with_suffix(".pid"))
        assert isinstance(found, Instance)
        return found

    return read


@pytest.fixture
def started(spawn, config, running, wait_for):
    """`started("--watch")`: a gateway in the foreground with its upstream connected."""

    def start(*options: str) -> subprocess.Popen[str]:
        with (config.parent / "output.log").open("a") as log:
            child = spawn("start", *options, stderr=log)
        wait_for(lambda: child.poll() is not None or "is up" in log_of(config), SLOW)
        assert child.poll() is None, log_of(config)
        return child

    return start


@pytest.fixture
def change(config):
    """`change(timeout=5.0)`: rewrite the file with other values."""

    def write(**settings: object) -> None:
        content = tomllib.loads(config.read_text())
        content["mcp"]["proxy"] |= settings
        config.write_text(tomli_w.dumps(content))

    return write


def log_of(config: Path) -> str:
    return (config.parent / "output.log").read_text()


class Agent:
    """An agent of revision 2025-11-25 on one connection, which initializes once."""

    def __init__(self, port: int, session: dict[str, str] | None = None) -> None:
        self._wire = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.session = session or {}
        if session is None:
            about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "one", "version": "1"}}
            self.ask("initialize", about)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": id(method) + id(self), "method": method, "params": params or {}})
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **self.session}
        self._wire.request("POST", "/mcp", body, headers)
        response = self._wire.getresponse()
        if session := response.getheader("Mcp-Session-Id"):
            self.session = {"Mcp-Session-Id": session}
        text = response.read().decode()
        return json.loads(text[text.index("data: {") + 6 :].splitlines()[0] if "data: {" in text else text)

    def close(self) -> None:
        self._wire.close()

    def call(self, tool: str, **arguments: Any) -> Any:
        return self.ask("tools/call", {"name": tool, "arguments": arguments})

    def add(self) -> str:
        answer = self.call("add", a=2, b=3)
        return str(answer["result"]["content"][0]["text"] if "result" in answer else answer)


@pytest.fixture
def agent_at() -> Iterator[Callable[..., Agent]]:
    """`agent_at(port)`: an agent with a new session, or with that of another one."""
    agents: list[Agent] = []

    def begin(port: int, other: Agent | None = None) -> Agent:
        agents.append(Agent(port, None if other is None else other.session))
        return agents[-1]

    yield begin
    for one in agents:
        one.close()


@pytest.mark.usefixtures("with_stdio_server")
def test_agents_and_browsers_notice_nothing(started, rad, config, running, free_port, agent_at):
    child = started()
    agent, before = agent_at(free_port), running()
    assert agent.add() == "5"
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(rad("ui", "--print").stdout.split()[-1], timeout=SLOW) as page:
        browser.addheaders.append((PAGE_KEY, page.url.partition("#key=")[2]))
    for _ in range(2):
        done = rad("restart")
        assert done.returncode == 0, done.stderr
        assert f"restarted: pid {child.pid}" in done.stderr
        assert agent.add() == "5", "on the same connection, in the same session"
    after = running()
    assert after.started > before.started
    assert (after.pid, after.token, after.control_address) == (child.pid, before.token, before.control_address)
    assert not config.with_suffix(".sessions").exists()
    with browser.open(f"{after.control_address}/admin/me", timeout=SLOW) as answer:
        assert json.load(answer)["right"] == "change"
    assert rad("stop").returncode == 0
    assert child.wait(SLOW) == 0
    assert log_of(config).count("listening") == 3


@pytest.mark.usefixtures("with_server")
def test_calls_in_flight_finish_and_new_ones_wait(started, rad, change, config, free_port, agent_at, wait_for, status):
    change(drain_timeout=60.0)
    started()
    agent = agent_at(free_port)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        in_flight = threads.submit(agent_at(free_port, agent).call, "slow", seconds=20)
        wait_for(lambda: status()["in_flight"], SLOW)
        restarting = threads.submit(rad, "restart")
        wait_for(lambda: "restarting: 1 call in flight" in log_of(config), SLOW)
        waiting = [threads.submit(one.add) for one in (agent, agent_at(free_port, agent))]
        assert in_flight.result(SLOW)["result"]["content"][0]["text"] == "at last"
        assert [one.result(SLOW) for one in waiting] == ["5", "5"]
        assert restarting.result(SLOW).returncode == 0
    wait_for(lambda: "tools/call add" in log_of(config), SLOW)
    log = log_of(config)
    assert log.index("slow") < log.index("stopped") < log.index("tools/call add")


@pytest.mark.usefixtures("with_server")
def test_a_call_longer_than_the_drain_ends_as_unknown(started, rad, change, free_port, agent_at, wait_for, status):
    change(drain_timeout=6.0)
    started()
    agent = agent_at(free_port)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        in_flight = threads.submit(agent_at(free_port, agent).call, "slow", seconds=50)
        wait_for(lambda: status()["in_flight"], SLOW)
        assert rad("restart").returncode == 0
        answer = json.dumps(in_flight.result(SLOW))
    assert "unknown" in answer, answer
    assert agent.add() == "5"


@pytest.mark.usefixtures("with_server")
def test_a_file_with_problems_changes_nothing(started, rad, change, running, free_port, agent_at):
    started()
    agent, before = agent_at(free_port), running()
    change(timeout="long", plugins=[{"name": "no_such_plugin"}])
    done = rad("restart")
    assert done.returncode == 1
    assert "2 problems in the configuration" in done.stderr
    assert "no_such_plugin" in done.stderr
    assert "goes on as it is" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        change(timeout=5.0, plugins=[], port=taken.getsockname()[1])
        assert "mcp.proxy.port: cannot be used" in rad("restart").stderr
    change(enable=False, port=free_port)
    assert "mcp.proxy.enable" in rad("restart").stderr
    assert running() == before
    assert agent.add() == "5"


@pytest.mark.usefixtures("with_server")
def test_the_new_program_reads_what_a_reload_cannot_change(started, rad, change, running, free_port, agent_at):
    started()
    agent = agent_at(free_port)
    other = ports.free_port()
    change(port=other, timeout=20.0)
    assert rad("restart").returncode == 0
    assert agent.add() == "5", "its connection goes on, wherever new ones arrive"
    assert agent_at(other, agent).add() == "5"
    with pytest.raises(OSError, match="refused"):
        agent_at(free_port)


@pytest.mark.usefixtures("with_server")
def test_a_signal_during_the_restart_stops_the_gateway(
    started, rad, change, config, free_port, agent_at, wait_for, status
):
    change(drain_timeout=60.0)
    child = started()
    agent = agent_at(free_port)
    with concurrent.futures.ThreadPoolExecutor() as threads:
        in_flight = threads.submit(agent_at(free_port, agent).call, "slow", seconds=20)
        wait_for(lambda: status()["in_flight"], SLOW)
        restarting = threads.submit(rad, "restart")
        wait_for(lambda: "restarting: 1 call in flight" in log_of(config), SLOW)
        waiting = threads.submit(agent.call, "add", a=1, b=1)
        wait_for(lambda: status()["connections"] == 2, SLOW)
        time.sleep(0.5)  # its request is on the way
        child.send_signal(signal.SIGTERM)
        assert waiting.result(SLOW)["error"]["code"] == -31005
        assert in_flight.result(SLOW)["result"]["content"][0]["text"] == "at last"
        assert child.wait(SLOW) == 0
        done = restarting.result(SLOW)
    assert done.returncode == 1
    assert "ended when it should restart" in done.stderr


SIGNALLED = """
import asyncio, os, signal, sys
from gateway_core.cli.serving.lifetime import Signals

async def main():
    signals = Signals(30.0, lambda: None)
    if "early" in sys.argv:
        os.kill(os.getpid(), signal.SIGTERM)
    return signals.hand_on()

print(asyncio.run(main()), flush=True)
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM):
    os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize(("when", "goes_on"), [("early", "False"), ("late", "True")])
def test_a_signal_to_stop_is_not_lost_between_the_two_programs(when: str, goes_on: str) -> None:
    command = [sys.executable, "-c", SIGNALLED, when]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SLOW)
    assert (done.stdout, done.returncode) == (f"{goes_on}\n", -signal.SIGTERM), done.stderr


def test_a_detached_gateway_stays_so(with_server, rad, config, running, agent_at, wait_for):
    port = ports.free_port()
    assert rad("start", "--detach", f"--port={port}").returncode == 0
    pid = running().pid
    try:
        assert rad("restart").returncode == 0
        assert running().pid == pid
        assert agent_at(port).session, "the options of the start stay in effect"
        wait_for(lambda: config.with_suffix(".log").read_text().count("listening") == 2)
    finally:
        assert rad("stop", "--now").returncode == 0
    assert not config.with_suffix(".pid").exists()


def test_without_a_running_gateway_it_is_exit_code_3(rad):
    done = rad("restart")
    assert (done.returncode, done.stdout) == (3, "")
    assert "not running" in done.stderr


async def test_a_program_that_cannot_start_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no module named gateway_core' >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(broken))
    launch = Launch(tmp_path / "mcp-proxy.toml", tmp_path, {})
    with pytest.raises(ReloadRefused, match="cannot start: no module named gateway_core"):
        await restart.rehearse(launch)
    broken.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(restart, "REHEARSAL_TIME", 0.5)
    with pytest.raises(ReloadRefused, match="did not check"):
        await restart.rehearse(launch)


async def test_the_new_program_loads_nothing_from_the_folder_that_it_runs_in(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = project / "gateway_core"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('loaded from the folder')\n")
    monkeypatch.chdir(project)
    await restart.rehearse(Launch(project / ".radium" / "mcp-proxy.toml", project, {}))


def test_the_lock_stays_over_the_restart_and_moves_with_the_state_folder(tmp_path: Path) -> None:
    config, other = tmp_path / "mcp-proxy.toml", tmp_path / "elsewhere"
    other.mkdir()
    hold = acquire(config, host="127.0.0.1", port=1)
    left = Inherited(hold.path, os.dup(hold.descriptor), (hold.instance.token, hold.instance.read_token))
    again = acquire(config, host="127.0.0.1", port=2, before=left)
    assert (again.instance.token, again.instance.read_token, again.descriptor) == (*left.tokens, left.fd)
    found = read_instance(pid_file(config))
    assert isinstance(found, Instance)
    assert (found.port, os.get_inheritable(left.fd)) == (2, False)
    moved = acquire(config, host="127.0.0.1", port=3, folder=other, before=left)
    assert moved.path == pid_file(config, other)
    assert not pid_file(config).exists()
    moved.release()


def test_other_descriptors_are_no_restart() -> None:
    with pytest.raises(Failed, match="only for a gateway that starts itself again"):
        restart.received(os.open(os.devnull, os.O_RDONLY))
