"""`reload`, `diff`, SIGHUP and `--watch`, with real processes."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tomli_w
from loguru import logger

from gateway_core.cli.instance import read_instance
from gateway_core.cli.serving import lifetime

pytestmark = pytest.mark.timeout(300)
SLOW = 60.0
"""Seconds that a busy machine may take for one step."""


@pytest.fixture
def config(project: Path) -> Path:
    return project / ".radium" / "mcp-proxy.toml"


@pytest.fixture
def change(config):
    """`change(timeout=5.0)`: rewrite the file with other values, as an editor that replaces it."""

    def write(**settings: object) -> None:
        content = tomllib.loads(config.read_text())
        content["mcp"]["proxy"] |= settings
        draft = config.with_suffix(".draft")
        draft.write_text(tomli_w.dumps(content))
        draft.chmod(0o600)
        draft.replace(config)

    return write


@pytest.fixture
def started(spawn, config, wait_for):
    """`started("--watch")`: a gateway in the foreground whose control plane answers."""

    def start(*options: str) -> subprocess.Popen[str]:
        with (config.parent / "output.log").open("w") as log:
            child = spawn("start", *options, stderr=log)
        pid_file = config.with_suffix(".pid")
        wait_for(lambda: child.poll() is not None or getattr(read_instance(pid_file), "control_port", 0), SLOW)
        wait_for(lambda: "listening" in log_of(config) or child.poll() is not None, SLOW)
        assert child.poll() is None, log_of(config)
        return child

    return start


@pytest.fixture
def eventually_true():
    """Wait until a condition holds, on the event loop."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SLOW):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


def log_of(config: Path) -> str:
    return (config.parent / "output.log").read_text()


def test_what_a_reload_prints_and_what_diff_prints_before(started, rad, change, config):
    started()
    assert "has the configuration of the file" in rad("diff").stdout
    assert rad("reload").stdout == "nothing changed\n"
    change(timeout=5.0, port=1, limits={"in_flight": 7})
    before = rad("diff")
    assert before.returncode == 0, before.stderr
    assert "would apply 2 changes" in before.stdout
    found = rad("reload")
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0] == "reloaded: 2 changes, generation 2"
    for line in ("  timeout: changed (60.0 -> 5.0)", "  limits.in_flight: changed (1024 -> 7)"):
        assert line in before.stdout.splitlines()
        assert line in found.stdout.splitlines()
    assert "1 change needs a restart:\n  port: changed (" in found.stdout
    assert "agents are connected to this address" in found.stdout
    again = json.loads(rad("reload", "--json").stdout)
    assert (again["ok"], again["generation"], [one["name"] for one in again["changes"]]) == (True, 2, ["port"])
    assert json.loads(rad("status", "--json").stdout)["generation"] == 2


def test_a_wrong_file_is_exit_code_1_with_all_problems(started, rad, change, config):
    started()
    change(timeout="long", plugins=[{"name": "no_such_plugin"}])
    for command in ("diff", "reload"):
        found = rad(command)
        assert (found.returncode, found.stdout) == (1, "")
        assert "2 problems in the configuration" in found.stderr
        assert "mcp.proxy.timeout" in found.stderr
        assert "no_such_plugin" in found.stderr
        assert found.stderr.count(f"{config}:") == 2
    shown = json.loads(rad("reload", "--json").stdout)
    assert shown["ok"] is False
    assert len(shown["problems"]) == 2
    change(enable=False, timeout=1.0, plugins=[])
    assert "to stop the gateway" in rad("reload").stderr


def test_without_a_running_gateway_it_is_exit_code_3(rad):
    for command in ("diff", "reload"):
        found = rad(command)
        assert found.returncode == 3
        assert "not running" in found.stderr


def test_sighup_reloads_and_logs_what_came_of_it(started, rad, change, config, wait_for):
    child = started()
    change(drain_timeout=7.0, log={"file": "gateway.log"})
    child.send_signal(signal.SIGHUP)
    log = config.parent / "gateway.log"
    wait_for(lambda: log.exists() and "the configuration was reloaded: 2 changes" in log.read_text(), SLOW)
    assert read_instance(config.with_suffix(".pid")).drain_timeout == 7.0
    change(drain_timeout="x")
    child.send_signal(signal.SIGHUP)
    wait_for(lambda: "was not reloaded, because of 1 problem" in log.read_text(), SLOW)
    assert child.poll() is None
    assert rad("stop").returncode == 0


def test_a_log_file_that_cannot_be_opened_changes_nothing(started, rad, change, config):
    started()
    change(log={"file": "/proc/no/such/file.log"}, timeout=1.0)
    found = rad("reload")
    assert found.returncode == 1
    assert "mcp.proxy.log.file: cannot be opened" in found.stderr
    assert json.loads(rad("status", "--json").stdout)["generation"] == 1


def test_a_watched_file_is_reloaded_whenever_it_is_replaced(started, status, change, config, wait_for):
    started("--watch")
    for number, seconds in enumerate((5.0, 6.0), start=2):
        change(timeout=seconds)
        wait_for(lambda number=number: status()["generation"] == number, SLOW)
    change(timeout="x")
    wait_for(lambda: "was not reloaded" in log_of(config), SLOW)


def test_a_watched_file_is_not_reloaded_again_for_what_the_gateway_wrote_or_read(
    with_server, started, rad, status, change, config, wait_for
):
    started("--watch")
    assert rad("disable", "calculator").returncode == 0
    wait_for(lambda: status()["generation"] == 2, SLOW)
    time.sleep(2.5)  # more than two looks at the file
    change(timeout=7.0)
    wait_for(lambda: status()["generation"] == 3, SLOW)
    wait_for(lambda: log_of(config).count("the configuration was reloaded") >= 2, SLOW)
    assert log_of(config).count("the configuration was reloaded") == 2


def test_values_of_the_command_line_stay(started, rad, change, config, free_port):
    started(f"--port={free_port}")
    change(port=4999, timeout=5.0)
    assert "restart" not in rad("reload").stdout


def test_a_terminal_that_is_closed_stops_the_gateway(project, environment, config, wait_for):
    """SIGHUP then does not ask for a reload."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(project)
        os.execve(sys.executable, [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "start"], environment)
    try:
        wait_for(lambda: getattr(read_instance(config.with_suffix(".pid")), "control_port", 0), SLOW)
    finally:
        os.close(terminal)
    wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, SLOW)


STUBBORN = """
import asyncio
from pathlib import Path

from gateway_core import hookimpl


class Stubborn:
    @hookimpl
    def before_call(self, call):
        pass

    async def __aenter__(self):
        Path("entering").touch()
        while not Path("go on").exists():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass
        return self

    async def __aexit__(self, *_):
        Path("left").touch()
"""


@pytest.mark.parametrize("mode", [[], ["--stdio"]])
def test_a_stop_during_a_reload_that_suppresses_its_cancellation_drains_at_once(
    spawn, project, environment, change, config, wait_for, monkeypatch, mode
):
    site = project / "site"
    monkeypatch.setitem(environment, "PYTHONPATH", str(site))
    info = site / "stubborn-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "stubborn.py").write_text(STUBBORN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stubborn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[gateway_core]\nstubborn = stubborn:Stubborn\n")
    with (config.parent / "output.log").open("w") as log:
        child = spawn("start", *mode, stdin=subprocess.PIPE, stderr=log)
    wait_for(lambda: "listening" in log_of(config), SLOW)
    change(plugins=[{"name": "stubborn"}], drain_timeout=40.0)
    child.send_signal(signal.SIGHUP)
    wait_for(lambda: (project / "entering").exists() or "was not reloaded" in log_of(config), SLOW)
    assert (project / "entering").exists(), log_of(config)
    child.terminate()
    wait_for(lambda: "stopping: 0 calls in flight" in log_of(config), SLOW)
    (project / "go on").touch()
    assert child.wait(SLOW) == 0, log_of(config)
    assert "did not stop in time" not in log_of(config)
    assert "the configuration was reloaded" not in log_of(config)
    assert (project / "left").exists()


async def test_a_bug_during_one_reload_leaves_the_next_one(eventually_true) -> None:
    reloads: list[None] = []

    async def fail() -> None:
        reloads.append(None)
        raise RuntimeError("a bug")

    gateway: Any = SimpleNamespace(reload_after_others=fail)
    signals: Any = SimpleNamespace(reload=asyncio.Event())
    async with lifetime._reloading(gateway, cast(Any, None), signals, watch=False):
        for number in (1, 2):
            signals.reload.set()
            await eventually_true(lambda number=number: len(reloads) == number)


async def test_the_end_of_the_watch_is_logged(tmp_path, eventually_true) -> None:
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(message.record["message"]), level="ERROR")
    source: Any = SimpleNamespace(path=tmp_path / "gone" / "mcp-proxy.toml", version=None)
    signals: Any = SimpleNamespace(reload=asyncio.Event())
    try:
        async with lifetime._reloading(cast(Any, None), source, signals, watch=True):
            await eventually_true(lambda: bool(lines))
    finally:
        logger.remove(handler)
    assert f"{source.path} is not watched any more" in lines[0]
