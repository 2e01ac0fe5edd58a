"""Starting and stopping, with real processes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from gateway_core.cli.instance import Instance, read_instance
from tests import ports

pytestmark = pytest.mark.timeout(180)  # some run several processes one after the other
FOR_OPERATORS = [
    "aiohttp",
    "attr",
    "gateway_core.control.app",
    "gateway_core.control.table",
    "gateway_core.generations.editing.edits",
    "gateway_core.upstream.auth.http",
    "mcp",
    "tomlkit",
]


@pytest.fixture
def pid_path(project):
    return project / ".radium" / "mcp-proxy.pid"


@pytest.fixture
def serves(status, free_port):
    """`serves()`: whether the gateway listens for agents, and answers operators."""
    return lambda: _listens(free_port) and bool(status())


@pytest.fixture
def running(spawn, serves, wait_for):
    """A gateway in the foreground, listening."""
    child = spawn("start")
    wait_for(lambda: child.poll() is not None or serves())
    assert child.poll() is None, child.stderr.read()
    return child


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_status_and_stop_of_a_running_gateway(running, rad, pid_path, free_port):
    found = rad("status", "--json")
    assert found.returncode == 0, found.stderr
    status = json.loads(found.stdout)
    assert status["pid"] == running.pid
    assert status["address"] == f"http://127.0.0.1:{free_port}"
    assert status["control"] == read_instance(pid_path).control_address
    assert pid_path.stat().st_mode & 0o777 == 0o600
    shown = rad("status", "--config", str(pid_path.with_suffix(".toml")), cwd=pid_path.parent)
    assert f"pid {running.pid}" in shown.stdout
    stopped = rad("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert running.wait(60) == 0
    assert not pid_path.exists()
    assert rad("status").returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(running, pid_path, number):
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert not pid_path.exists()


def test_not_running_is_exit_code_3(rad, tmp_path):
    for command in ("status", "stop"):
        found = rad(command)
        assert found.returncode == 3
        assert "rad mcp proxy start" in found.stderr
    assert rad("status", cwd=tmp_path.parent).returncode == 3
    assert rad("status", "--config", "gone.toml").returncode == 2


def test_stop_never_signals_a_stranger(rad, pid_path):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        stale = Instance(stranger.pid, "127.0.0.1", 3000, "t", 0.0)
        pid_path.write_text(json.dumps({name: getattr(stale, name) for name in Instance.__slots__}))
        assert rad("stop").returncode == 3
        assert stranger.poll() is None
        stranger.kill()


def test_a_stale_file_does_not_block_a_start(spawn, rad, pid_path, wait_for, free_port):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_path.write_text(json.dumps({"pid": stranger.pid, "host": "x", "port": 1, "token": "t", "started": 0}))
        child = spawn("start")
        wait_for(lambda: _listens(free_port))
        assert read_instance(pid_path).pid == child.pid
        stranger.kill()


def test_a_killed_gateway_does_not_block_the_next(running, spawn, rad, pid_path, wait_for, free_port):
    running.kill()
    running.wait()
    assert pid_path.exists()
    assert rad("status").returncode == 3
    child = spawn("start")
    wait_for(lambda: _listens(free_port))
    assert read_instance(pid_path).pid == child.pid


def test_a_port_in_use_names_the_holder_and_the_remedies(rad, pid_path, free_port):
    with socket.create_server(("127.0.0.1", free_port)):
        found = rad("start")
    assert found.returncode == 1
    assert f"127.0.0.1:{free_port}" in found.stderr
    assert f"(pid {os.getpid()})" in found.stderr
    for remedy in ("choose another port", "end that program"):
        assert remedy in found.stderr
    assert "Traceback" not in found.stderr
    assert not pid_path.exists()


def test_a_file_that_is_switched_off_is_refused_with_the_way_to_switch_it_on(rad, pid_path):
    config = pid_path.with_suffix(".toml")
    config.write_text("[mcp.proxy]\n")
    for mode in ((), ("--stdio",), ("--detach",)):
        found = rad("start", *mode)
        assert found.returncode == 2
        assert str(config) in found.stderr
        assert "enable = true" in found.stderr


def test_every_mistake_in_the_configuration_is_reported_at_once(rad, pid_path):
    pid_path.with_suffix(".toml").write_text("[mcp.proxy]\nenable = true\nport = 0\nhots = 1\n")
    for mode in ((), ("--stdio",), ("--detach",)):
        found = rad("start", *mode)
        assert found.returncode == 2
        assert "mcp-proxy.toml:3:" in found.stderr
        assert "mcp-proxy.toml:4:" in found.stderr
        assert found.stdout == ""
    assert not pid_path.exists()


def with_diary(pid_path):
    """Add a server on stdio that writes the pid of each of its starts to a file, and returns that."""
    diary, config = pid_path.with_suffix(".diary"), pid_path.with_suffix(".toml")
    code = f"import os, sys; open('{diary}', 'a').write(str(os.getpid()) + chr(10)); sys.stdin.read()"
    upstream = f'[[mcp.proxy.upstreams]]\nname = "up"\ntransport = "stdio"\ncommand = "{sys.executable}"\n'
    config.write_text(f'{config.read_text()}{upstream}args = ["-c", "{code}"]\n')
    return diary


def test_a_server_on_stdio_is_started_once_and_ends_with_the_gateway(spawn, rad, pid_path, wait_for, free_port):
    diary = with_diary(pid_path)
    child = spawn("start")
    wait_for(lambda: child.poll() is not None or (_listens(free_port) and diary.exists() and diary.read_text()))
    (pid,) = map(int, diary.read_text().split())
    os.kill(pid, 0)
    assert rad("stop").returncode == 0
    assert child.wait(60) == 0
    wait_for(lambda: not _lives(pid))
    assert len(diary.read_text().split()) == 1


def test_what_is_refused_leaves_no_server_behind(rad, pid_path, free_port, wait_for):
    diary = with_diary(pid_path)
    with socket.create_server(("127.0.0.1", free_port)):
        assert rad("start").returncode == 1
    assert not diary.exists(), "nothing was started"
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write('[[mcp.proxy.plugins]]\nname = "no_such_plugin"\n')
    assert rad("start").returncode == 2
    wait_for(lambda: _all_ended(diary))


def _all_ended(diary):
    """Whether each server that was started has ended."""
    return not any(_lives(int(pid)) for pid in (diary.read_text().split() if diary.exists() else ()))


def test_a_log_that_cannot_be_opened_leaves_no_server_behind(rad, pid_path, wait_for):
    diary = with_diary(pid_path)
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write('[mcp.proxy.log]\nfile = "."\n')
    found = rad("start")
    assert found.returncode == 1
    assert found.stderr.startswith("error: ")
    assert "Is a directory" in found.stderr
    assert not pid_path.exists()
    wait_for(lambda: _all_ended(diary))


def test_a_missing_plugin_is_a_configuration_error(rad, pid_path):
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write('[[mcp.proxy.plugins]]\nname = "no_such_plugin"\n')
    found = rad("start")
    assert found.returncode == 2
    assert "no_such_plugin" in found.stderr
    assert not pid_path.exists()


def test_wrong_options_are_wrong_usage(rad):
    assert rad("start", "--no-such-option").returncode == 2
    assert rad("start", "--detach", "--stdio").returncode == 2
    assert rad("start", "--config", "gone.toml").returncode == 2


def test_detached_it_listens_when_the_command_returns(rad, pid_path, free_port, wait_for):
    found = rad("start", "--detach")
    assert found.returncode == 0, found.stderr
    try:
        instance = read_instance(pid_path)
        assert _listens(free_port)
        assert f"pid {instance.pid}\n  agents connect to: http://127.0.0.1:{free_port}/mcp\n" in found.stdout
        assert f"control plane: http://127.0.0.1:{instance.control_port}\n" in found.stdout
        assert os.getsid(instance.pid) == instance.pid
        again = rad("start", "--detach")
        assert again.returncode == 1
        assert f"already running (pid {instance.pid}, http://127.0.0.1:{free_port})" in again.stderr
        assert read_instance(pid_path) == instance
    finally:
        assert rad("stop").returncode == 0
    log = pid_path.with_suffix(".log")
    wait_for(lambda: "listening" in log.read_text())
    assert log.stat().st_mode & 0o777 == 0o600
    assert not pid_path.exists()


def test_detached_it_passes_on_its_error_and_exit_code(rad, pid_path, free_port):
    with socket.create_server(("127.0.0.1", free_port)):
        found = rad("start", "--detach")
    assert found.returncode == 1
    assert "already in use" in found.stderr
    assert found.stderr.startswith("error: ")
    pid_path.with_suffix(".toml").write_text("[mcp.proxy]\nenable = true\nport = 0\n")
    assert rad("start", "--detach").returncode == 2


def test_concurrent_starts_leave_exactly_one(spawn, pid_path, wait_for, free_port):
    children = [spawn("start") for _ in range(4)]
    wait_for(lambda: sum(child.poll() is None for child in children) == 1, 100)
    (winner,) = (child for child in children if child.poll() is None)
    assert {child.returncode for child in children if child is not winner} == {1}
    wait_for(lambda: _listens(free_port))
    assert read_instance(pid_path).pid == winner.pid
    for child in children:
        if child is not winner:
            assert re.search(rf"already running \(pid {winner.pid}, ", child.stderr.read())


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["tools"], ["call", "add"]])
def test_a_gateway_that_hangs_is_told_apart_from_one_that_ended(shared_gateway, rad, status, command):
    pid = status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        found = rad(*command)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found.returncode == 1
    assert f"running (pid {pid}) but not answering" in found.stderr
    assert "no answer within 2 s" in found.stderr
    assert "stop --now" in found.stderr
    assert found.stdout == ""


def test_operators_are_answered_while_agents_hold_all_connections(spawn, rad, pid_path, wait_for, free_port, serves):
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write("max_connections = 1\n")
    spawn("start")
    wait_for(serves)
    with contextlib.ExitStack() as held:
        for _ in range(200):
            held.enter_context(socket.create_connection(("127.0.0.1", free_port)))
        assert json.loads(rad("status", "--json").stdout)["connections"] == 0, "they have said nothing"


def test_the_control_plane_listens_where_the_file_says(spawn, rad, pid_path, wait_for, serves):
    port = ports.free_port()
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write(f'[mcp.proxy.control]\nhost = "localhost"\nport = {port}\n')
    child = spawn("start")
    wait_for(lambda: child.poll() is not None or serves())
    assert read_instance(pid_path).control_port == port
    assert json.loads(rad("status", "--json").stdout)["control"].endswith(f":{port}")


def test_a_port_of_the_control_plane_in_use_names_its_key(rad, pid_path):
    diary = with_diary(pid_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pid_path.with_suffix(".toml").open("a") as file:
        file.write(f"[mcp.proxy.control]\nport = {taken.getsockname()[1]}\n")
        file.flush()
        found = rad("start")
    assert found.returncode == 1
    assert f"(pid {os.getpid()})" in found.stderr
    assert "[mcp.proxy.control] port = " in found.stderr
    assert not pid_path.exists()
    assert not diary.exists(), "nothing was started"


@pytest.fixture
def older(pid_path):
    """A process that holds the pid file as gateways did before its format had a number."""
    code = (
        "import fcntl, json, os, signal, sys, time\n"
        "file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "json.dump({'pid': os.getpid(), 'host': '127.0.0.1', 'port': 3000, 'token': 't', 'started': 1.0,"
        " 'drain_timeout': 30.0}, file); file.flush(); print('held', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(pid_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        yield child
        child.kill()


def test_a_gateway_of_another_version_is_named_and_can_be_stopped(older, rad):
    for command in (["status"], ["tools"], ["call", "add"]):
        found = rad(*command)
        assert found.returncode == 1
        assert f"running (pid {older.pid}), but as another version" in found.stderr
        assert "rad mcp proxy stop" in found.stderr
    again = rad("start")
    assert again.returncode == 1
    assert f"already running (pid {older.pid}), as another version" in again.stderr
    assert rad("stop").returncode == 0
    assert older.wait(60) == -signal.SIGTERM
    assert rad("status").returncode == 3


def test_stop_says_what_to_do_about_a_process_that_stays(running, rad, pid_path, environment):
    os.kill(running.pid, signal.SIGSTOP)
    code = (
        "import sys; from gateway_core.cli import main, stop; stop.STOP_GRACE = 1.0; stop.PROGRESS_INTERVAL = 0.0\n"
        "sys.argv = ['rad', 'mcp', 'proxy', 'stop', '--now']; sys.exit(main())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pid_path.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.kill(running.pid, signal.SIGCONT)
    assert found.returncode == 1
    assert "still waiting" in found.stderr
    assert f"kill -9 {running.pid}" in found.stderr


BLOCKED = """
import sys, time
from gateway_core import gateway
from gateway_core.cli import main
from gateway_core.cli.serving import lifetime

class Blocked(gateway.Gateway):
    async def drain(self):
        print("draining", flush=True)
        time.sleep(1000)

gateway.Gateway, lifetime.WATCHDOG_GRACE = Blocked, 0.5
sys.argv = ["rad", "mcp", "proxy", "start"]
sys.exit(main())
"""


def test_a_blocked_event_loop_does_not_keep_the_process_alive(project, environment, free_port, pid_path, wait_for):
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write("drain_timeout = 0.5\n")
    child = subprocess.Popen(
        [sys.executable, "-c", BLOCKED], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: _listens(free_port))
        child.terminate()
        _, err = child.communicate(timeout=60)
        assert child.returncode == 1
        assert b"did not stop in time" in err
        assert not pid_path.exists()
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def test_a_port_in_use_is_found_before_the_gateway_is_loaded(project, environment, free_port):
    code = (
        "import sys; from gateway_core.cli import main\n"
        "sys.argv = ['rad', 'mcp', 'proxy', 'start']; code = main()\n"
        "print('loaded:', 'mcp' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    with socket.create_server(("127.0.0.1", free_port)):
        found = subprocess.run(
            [sys.executable, "-c", code],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert found.returncode == 1
    assert found.stderr.startswith("error: port")  # nothing was logged before
    assert "loaded: False" in found.stderr


def test_what_is_not_needed_for_the_first_children_is_loaded_after_them(environment):
    code = "import sys, gateway_core.cli.app, gateway_core.cli.report, gateway_core.cli.serving.serve\n"
    code += "print(sorted({'aiohttp', 'loguru', 'msgspec', 're2', 'tomli_w'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100, check=True
    )
    assert found.stdout.strip() == "['tomli_w']"  # for examples in error messages: it is small


LOADS = (
    "import sys; from gateway_core.control.listener import ControlPlane\n"
    "load = ControlPlane.load\n"
    "def shown(control):\n"
    f"    print(sorted(set({FOR_OPERATORS!r}) & set(sys.modules)), file=sys.stderr, flush=True)\n"
    "    return load(control)\n"
    "ControlPlane.load = shown\n"
    "from gateway_core.cli import main\n"
    "sys.argv = ['rad', 'mcp', 'proxy', 'start']; sys.exit(main())"
)
"""Starts a gateway, and shows what is imported when it listens."""


def test_what_only_operators_need_is_loaded_after_the_gateway_listens(project, environment, wait_for, free_port, rad):
    child = subprocess.Popen(
        [sys.executable, "-c", LOADS], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stderr.readline() == b"[]\n"
        assert _listens(free_port)
        wait_for(lambda: rad("status").returncode == 0)
    finally:
        child.terminate()
        child.communicate(timeout=60)


def test_plugins_of_pydantic_are_shown_nothing(project, environment, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "curious.py").write_text("open('loaded', 'w').close()\n")
    info = site / "curious-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: curious\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pydantic]\ncurious = curious\n")
    found = subprocess.run(
        [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "check"],
        cwd=project,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert not (project / "loaded").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_do_no_harm(project, environment, closed):
    line = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    command = f"echo '{line}' | '{sys.executable}' -m gateway_core.cli mcp proxy start --stdio {closed}"
    found = subprocess.run(
        command, shell=True, cwd=project, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert found.returncode == 0, found.stderr
    assert "Traceback" not in found.stderr
    assert ('"id":1' in found.stdout) is (closed == "2>&-")


@pytest.mark.parametrize("command", ["status", "start"])
def test_an_error_without_a_stderr_is_still_an_exit_code(project, environment, command):
    shell = f"'{sys.executable}' -m gateway_core.cli mcp proxy {command} --config gone.toml 2>&-"
    found = subprocess.run(
        shell, shell=True, cwd=project, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert found.returncode == 2
    assert found.stdout == ""


def test_an_interrupt_while_loading_is_no_traceback(project, environment):
    code = (
        "import signal, sys; from gateway_core.cli import main\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == sys.argv[-1]: signal.default_int_handler(signal.SIGINT, None)\n"
        "sys.meta_path.insert(0, Interrupt()); wanted = sys.argv[-1]\n"
        "sys.argv = ['rad', 'mcp', 'proxy', 'start', '--config', wanted]; sys.exit(main())"
    )
    for module in ("gateway_core.cli.serving.start", "gateway_core.cli.serving.serve"):
        found = subprocess.run(
            [sys.executable, "-c", code, module],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert found.returncode == 130
        assert "Traceback" not in found.stderr


def test_a_broken_stdin_is_no_success(rad, project):
    with (project / "in").open("wb") as cannot_be_read:
        found = rad("start", "--stdio", stdin=cannot_be_read)
    assert found.returncode == 1
    assert "Bad file descriptor" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_detached_start_leaves_nothing_running(project, environment, pid_path, wait_for, number):
    diary = with_diary(pid_path)
    site = project / "site"
    site.mkdir()
    # It goes on after its starter was killed, and ends for any other signal while it still starts.
    delay = "while not os.path.exists('killed'): await asyncio.sleep(0.05)"
    (site / "sitecustomize.py").write_text(
        "import sys\n"
        "class Slow:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'gateway_core.cli.serving.lifetime':\n"
        "            sys.meta_path.remove(self)\n"
        "            import asyncio, os\n"
        "            from gateway_core import gateway\n"
        "            first = gateway.Gateway.start\n"
        "            async def start(self, **options):\n"
        "                open('starting', 'w').close()\n"
        f"                {delay}\n"
        "                await first(self, **options)\n"
        "            gateway.Gateway.start = start\n"
        "sys.meta_path.insert(0, Slow())\n"
    )
    command = [sys.executable, "-m", "gateway_core.cli", "mcp", "proxy", "start", "--detach"]
    starter = subprocess.Popen(
        command,
        cwd=project,
        env={**environment, "PYTHONPATH": str(site)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - shells ignore it in the background
    )
    try:
        wait_for(lambda: (project / "starting").exists() and diary.exists() and diary.read_text(), 100)
        pid = read_instance(pid_path).pid
        starter.send_signal(number)
        _, said = starter.communicate(timeout=100)
        if number == signal.SIGKILL:
            (project / "killed").touch()
    finally:
        if starter.poll() is None:
            starter.kill()
            starter.communicate()
    wait_for(lambda: not pid_path.exists() and not _lives(pid), 100)
    wait_for(lambda: not any(_lives(int(child)) for child in diary.read_text().split()))
    assert starter.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    assert number == signal.SIGKILL or "interrupted" in said
    assert "Traceback" not in said


def _lives(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_the_log_that_is_printed_is_the_one_that_is_written(rad, pid_path, wait_for):
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write('[mcp.proxy.log]\nfile = "logs.txt"\n')
    found = rad("start", "--detach")
    try:
        log = re.search(r"^  log: (.*)$", found.stdout, re.MULTILINE)[1]
        assert log == str(pid_path.with_name("logs.txt"))
        wait_for(lambda: "listening" in Path(log).read_text())  # a thread writes it
    finally:
        rad("stop")


def test_hints_repeat_the_configuration_that_was_given(rad, project, pid_path):
    config = str(pid_path.with_suffix(".toml"))
    started = rad("start", "--detach", "--config", config)
    try:
        assert f"to stop it: rad mcp proxy stop --config {config}" in started.stdout
        for again in (rad("start", "--detach", "--config", config), rad("start", "--config", config)):
            assert f"to stop it:    rad mcp proxy stop --config {config}" in again.stderr
        assert "to stop it:    rad mcp proxy stop\n" in rad("start", "--detach").stderr
    finally:
        rad("stop", "--config", config)
    assert f"to start it: rad mcp proxy start --config {config}" in rad("stop", "--config", config).stderr


def test_an_address_beyond_loopback_is_refused_or_warned_about_by_check_start_and_the_log(
    rad, project, pid_path, wait_for
):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(config.read_text() + 'host = "127.1"\n')  # no name of loopback, but leads there alone
    refused = 'mcp.proxy.host is "127.1": other machines may be able to connect, and nothing authenticates agents'
    for found in (rad("check"), rad("start"), rad("start", "--detach")):
        assert (found.returncode, refused in found.stderr) == (2, True), found
    config.write_text(config.read_text() + "anonymous = true\n")
    warning = 'mcp.proxy.host is "127.1" and anonymous is true: everybody who reaches the port may call everything'
    assert f"warning: {warning}" in rad("check").stdout
    assert json.loads(rad("check", "--json").stdout)["warnings"][0].startswith(warning)
    found = rad("start", "--detach")
    try:
        assert found.returncode == 0, found.stderr
        assert f"warning: {warning}" in found.stderr
        wait_for(lambda: f"WARNING {warning}" in config.with_suffix(".log").read_text())
    finally:
        rad("stop")


def test_hints_repeat_the_state_folder_that_was_given(rad, tmp_path):
    option = ["--state-dir", str(tmp_path / "state")]
    started = rad("start", "--detach", *option)
    try:
        hint = f"rad mcp proxy stop --state-dir {option[1]}\n"
        assert f"to stop it: {hint}" in started.stdout
        for again in (rad("start", "--detach", *option), rad("start", *option)):
            assert f"to stop it:    {hint}" in again.stderr
    finally:
        rad("stop", *option)
    assert f"to start it: rad mcp proxy start --state-dir {option[1]}" in rad("stop", *option).stderr


@pytest.mark.parametrize("way", ["option", "variable", "key"])
def test_a_state_folder_holds_all_files_and_every_command_finds_it(
    with_server, rad, environment, free_port, tmp_path, monkeypatch, way
):
    state = tmp_path / "state" / "of it"
    config = with_server / ".radium" / "mcp-proxy.toml"
    option = ["--state-dir", str(state)] if way == "option" else []
    if way == "variable":
        monkeypatch.setitem(environment, "RADIUM_STATE_DIR", str(state))
    if way == "key":
        config.write_text(config.read_text().replace("enable = true", f"enable = true\nstate_dir = '{state}'"))
    config.write_text(config.read_text() + '[mcp.proxy.log]\nfile = "own.log"\n')
    started = rad("start", "--detach", *option)
    assert started.returncode == 0, started.stderr
    try:
        assert json.loads(rad("status", "--json", *option).stdout)["address"] == f"http://127.0.0.1:{free_port}"
        assert "pid" in rad("status", *option).stdout
        assert rad("call", "add", "--arg", "a=2", "--arg", "b=3", *option).stdout == "5\n"
        assert "add" in rad("tools", *option).stdout
        assert "a    " in rad("tools", "add", *option).stdout
        if way == "option":
            assert rad("status").returncode == 3
    finally:
        assert rad("stop", *option).returncode == 0
    assert {path.name for path in state.iterdir()} == {
        *("own.log", "mcp-proxy.log", "mcp-proxy.names", "mcp-proxy.lists"),
    }
    assert state.stat().st_mode & 0o777 == 0o700
    assert list(config.parent.iterdir()) == [config]


def test_a_gateway_is_found_after_its_file_is_broken(with_server, rad, environment, tmp_path, monkeypatch):
    """The key cannot be read then; the folders that are used without it can still be searched."""
    monkeypatch.setitem(environment, "XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert rad("start", "--detach").returncode == 0
    (with_server / ".radium" / "mcp-proxy.toml").write_text("[mcp.proxy\nstate_dir = ")
    assert rad("stop").returncode == 0


def test_a_state_folder_that_cannot_be_made_names_the_way_out(rad, project):
    (project / "file").write_text("")
    for command in (["start"], ["start", "--detach"]):
        found = rad(*command, "--state-dir", "file/state")
        assert found.returncode == 1
        assert "cannot create the state folder" in found.stderr
        assert "state_dir = " in found.stderr


@pytest.mark.parametrize("detached", [True, False])
def test_host_and_port_come_from_the_command_line(rad, spawn, pid_path, wait_for, free_port, detached, serves):
    config = pid_path.with_suffix(".toml")
    config.write_text('[mcp.proxy]\nenable = true\nport = "${NOT_SET_ANYWHERE}"\nhost = "127.0.0.9"\n')
    options = ["--host", "localhost", "--port", str(free_port)]
    if detached:
        assert rad("start", "--detach", *options).returncode == 0
    else:
        child = spawn("start", *options)
        wait_for(lambda: child.poll() is not None or serves())
    assert json.loads(rad("status", "--json").stdout)["address"] == f"http://localhost:{free_port}"
    assert rad("stop").returncode == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "http://x"], "--host: must be an IP address or a host name"),
        (["--port", "0"], "--port"),
        (["--port", "65536"], "--port"),
        (["--port", "1000", "--stdio"], "--port has no effect with --stdio"),
        (["--host", "::1", "--stdio"], "--host has no effect with --stdio"),
    ],
)
def test_wrong_addresses_on_the_command_line_are_refused(rad, options, said):
    found = rad("start", *options)
    assert (found.returncode, said in found.stderr) == (2, True), found.stderr


def test_a_port_of_the_command_line_may_not_be_that_of_the_control_plane(rad, pid_path):
    with pid_path.with_suffix(".toml").open("a") as file:
        file.write("[mcp.proxy.control]\nport = 20555\n")
    found = rad("start", "--port", "20555")
    assert found.returncode == 2
    assert "is also mcp.proxy.port" in found.stderr


LEFT_OUT = """
[[mcp.proxy.upstreams]]
name = "asleep"
transport = "stdio"
command = "${NOT_SET_ANYWHERE}"
enabled = false

[[mcp.proxy.upstreams]]
name = "later"
transport = "http"
url = "http://localhost:1/mcp"
headers = { Authorization = "Bearer ${NOT_SET_ANYWHERE}" }
on_missing = "skip"
"""


def test_an_upstream_that_is_left_out_stops_no_other(with_server, rad, spawn, wait_for, serves):
    config = with_server / ".radium" / "mcp-proxy.toml"
    config.write_text(config.read_text() + LEFT_OUT)
    checked = rad("check")
    assert checked.returncode == 0, checked.stderr
    assert "disabled  asleep" in checked.stdout
    assert re.search(r"misconfigured  later  .*\(line \d+\): environment variable NOT_SET_ANYWHERE", checked.stdout)
    states = {one["name"]: one.get("state") for one in json.loads(rad("check", "--json").stdout)["upstreams"]}
    assert states == {"calculator": None, "later": "misconfigured", "asleep": "disabled"}

    tried = rad("check", "--connect")
    assert tried.returncode == 1
    assert "1 of 3 upstreams failed: later" in tried.stderr

    child = spawn("start")
    wait_for(lambda: child.poll() is not None or serves())
    assert rad("call", "add", "--arg", "a=2", "--arg", "b=3").stdout == "5\n"
    status = json.loads(rad("status", "--json").stdout)
    found = {one["name"]: one for one in status["upstreams"]}
    assert {name: one["state"] for name, one in found.items()} == {
        "calculator": "healthy",
        "later": "misconfigured",
        "asleep": "disabled",
    }
    assert all(one.keys() == found["calculator"].keys() for one in found.values())
    assert "NOT_SET_ANYWHERE is not set" in found["later"]["last_error"]
    shown = rad("status").stdout
    assert "later: last error: headers.Authorization (line " in shown
    assert "NOT_SET_ANYWHERE is not set" in rad("tools").stdout
    assert "later" in rad("call", "later:anything").stderr
    child.send_signal(signal.SIGTERM)
    assert "upstream later is misconfigured and left out" in child.communicate(timeout=60)[1]


def test_a_gateway_whose_only_upstream_is_misconfigured_is_not_ready(project, rad, spawn, wait_for, serves):
    config = project / ".radium" / "mcp-proxy.toml"
    config.write_text(config.read_text() + LEFT_OUT)
    spawn("start")
    wait_for(serves)
    assert json.loads(rad("status", "--json").stdout)["ready"] is False


def test_a_name_is_kept_for_an_upstream_whose_variable_is_gone(
    with_server, rad, environment, monkeypatch, wait_for_upstream
):
    """Another server must not get the calls that were meant for it."""
    config = with_server / ".radium" / "mcp-proxy.toml"
    text = config.read_text()
    first = text[text.index("[[mcp.proxy.upstreams]]") :]
    keys = 'name = "first"\non_missing = "skip"\ntools = ["${FIRST_TOOL}", "slow"]'
    config.write_text(text.replace(first, first.replace('name = "calculator"', keys) + first))

    def owners() -> dict[str, list[str]]:
        listed = json.loads(rad("tools", "--json").stdout)["tools"]
        return {one["name"]: one["upstreams"] for one in listed}

    monkeypatch.setitem(environment, "FIRST_TOOL", "add")
    assert rad("start", "--detach").returncode == 0
    for name in ("first", "calculator"):
        wait_for_upstream(name)
    assert owners()["add"] == ["first"]
    assert "calculator__add" in owners()
    assert rad("stop").returncode == 0

    monkeypatch.delitem(environment, "FIRST_TOOL")
    assert rad("start", "--detach").returncode == 0
    wait_for_upstream()
    found = owners()
    assert "calculator__add" in found
    assert "add" not in found
    assert "first: misconfigured (tools[0] (line 7)" in rad("call", "first:add").stderr
    assert rad("stop").returncode == 0


class LegacyAgent:
    """An agent of revision 2025-11-25 that does not initialize again."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/mcp"
        self._session: dict[str, str] = {}

    def initialize(self) -> None:
        info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "one", "version": "1"}}
        self.ask("initialize", info)

    def ask(self, method: str, params: dict[str, object] | None = None) -> dict[str, object]:
        """The response to a request. Raises `HTTPError`, with status 404 if the session has ended."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), {**headers, **self._session})
        with urllib.request.urlopen(request, timeout=60) as response:
            if session := response.headers.get("Mcp-Session-Id"):
                self._session = {"Mcp-Session-Id": session}
            return json.loads(response.read())


def test_a_session_goes_on_after_a_stop_and_the_next_start(running, rad, spawn, pid_path, free_port, wait_for):
    agent = LegacyAgent(free_port)
    agent.initialize()
    assert rad("stop").returncode == 0
    kept = pid_path.with_suffix(".sessions")
    assert kept.stat().st_mode & 0o777 == 0o600
    spawn("start")
    wait_for(lambda: _listens(free_port), 60)
    assert not kept.exists()
    assert "result" in agent.ask("tools/list")


def test_a_detached_gateway_loads_nothing_from_the_folder_that_it_runs_in(
    project: Path, environment: dict[str, str]
) -> None:
    trap = project / "gateway_core"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit('loaded from the folder')\n")
    rad = [sys.executable, "-P", "-m", "gateway_core.cli", "mcp", "proxy"]
    options: Any = {"cwd": project, "env": environment, "capture_output": True, "text": True, "timeout": 50}
    started = subprocess.run([*rad, "start", "--detach"], check=False, **options)
    assert started.returncode == 0, started.stderr
    assert subprocess.run([*rad, "stop", "--now"], check=False, **options).returncode == 0
