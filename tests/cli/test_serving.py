"""The commands that speak with upstreams, over a real server on the official SDK."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from gateway_core.cli.instance import read_instance

pytestmark = pytest.mark.timeout(180)  # some run ten processes one after the other


@pytest.fixture
def running(with_server, rad, wait_for_upstream):
    """A detached gateway with the upstream connected."""
    assert rad("start", "--detach").returncode == 0
    wait_for_upstream()
    yield
    rad("stop", "--now")


def test_tools_and_calls_through_the_running_gateway(running, rad, status):
    found = rad("tools", "--json")
    assert [one["name"] for one in json.loads(found.stdout)["tools"]] == ["add", "slow", "fail"]
    assert "connecting" not in found.stderr
    shown = rad("tools").stdout
    assert "Add two numbers." in shown
    assert "calculator" in shown

    called = rad("call", "add", "--arg", "a=2", "--arg", "b=3")
    assert (called.returncode, called.stdout) == (0, "5\n"), called.stderr
    as_json = rad("call", "calculator:add", "--data", '{"a": 2, "b": 40}', "--json")
    assert json.loads(as_json.stdout)["structuredContent"] == {"result": 42}
    failed = rad("call", "fail")
    assert failed.returncode == 1
    assert failed.stdout == "Error executing tool fail\n"  # how the SDK words it
    assert "the tool reports an error" in failed.stderr
    unknown = rad("call", "no_such_tool", "--json")
    assert unknown.returncode == 1
    assert json.loads(unknown.stdout)["error"]["code"] == -32602
    assert "Traceback" not in unknown.stderr

    assert status()["upstreams"][0]["calls"] == 3
    shown = rad("status").stdout
    assert "healthy" in shown
    assert "calculator" in shown


def test_servers_whose_tools_are_not_known_are_named_with_the_reason(project, rad, wait_for):
    config = project / ".radium" / "mcp-proxy.toml"
    slow, dead = f"{sys.executable!r}", "http://127.0.0.1:9/mcp"
    config.write_text(
        f'''{config.read_text()}
[[mcp.proxy.upstreams]]
name = "slow"
transport = "stdio"
command = {slow}
args = ["-c", "import time; time.sleep(60)"]

[[mcp.proxy.upstreams]]
name = "dead"
transport = "http"
url = "{dead}"
'''
    )
    assert rad("start", "--detach").returncode == 0
    try:
        wait_for(lambda: "dead: not reached so far" in rad("tools").stdout)
        shown = rad("tools").stdout
        assert "no tools" in shown
        assert "warning: slow: not reached yet, its tools are still to come" in shown
        assert "warning: dead: not reached so far, its tools are not known: cannot connect to 127.0.0.1:9" in shown
    finally:
        rad("stop", "--now")


def test_without_a_running_gateway_a_call_starts_its_server(with_stdio_server, rad):
    assert rad("call", "add", "--arg", "a=2", "--arg", "b=3").stdout == "5\n"


def test_without_a_running_gateway_the_commands_connect_themselves(with_server, rad):
    found = rad("tools", "--json")
    assert [one["name"] for one in json.loads(found.stdout)["tools"]] == ["add", "slow", "fail"]
    assert "connecting to its upstreams" in found.stderr
    called = rad("call", "add", "--arg", "a=2", "--arg", "b=3", "--json")
    assert json.loads(called.stdout)["structuredContent"] == {"result": 5}
    failed = rad("call", "fail")
    assert failed.returncode == 1
    assert failed.stdout == "Error executing tool fail\n"  # how the SDK words it
    unknown = rad("call", "no_such_tool")
    assert unknown.returncode == 1
    assert "no_such_tool" in unknown.stderr


def test_check_tells_good_upstreams_from_bad_ones(with_server, rad):
    good = rad("check", "--connect")
    assert good.returncode == 0, good.stderr
    assert "ok      calculator" in good.stdout
    with (with_server / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write('[[mcp.proxy.upstreams]]\nname = "gone"\ntransport = "http"\nurl = "http://127.0.0.1:9/mcp"\n')
    assert rad("check").returncode == 0
    bad = rad("check", "--connect")
    assert bad.returncode == 1
    assert "ok      calculator" in bad.stdout
    assert "failed  gone" in bad.stdout
    assert "1 of 2 upstreams failed: gone" in bad.stderr
    as_json = json.loads(rad("check", "--connect", "--json").stdout)
    assert as_json["ok"] is False
    assert [one["state"] == "healthy" for one in as_json["upstreams"]] == [True, False]


def test_check_reports_mistakes_as_json_too(project, rad):
    (project / ".radium" / "mcp-proxy.toml").write_text("[mcp.proxy]\nport = 0\nhots = 1\n")
    found = rad("check", "--json")
    assert found.returncode == 2
    assert len(json.loads(found.stdout)["problems"]) == 2
    (project / ".radium" / "mcp-proxy.toml").write_text('[mcp.proxy]\n[[mcp.proxy.plugins]]\nname = "nobody"\n')
    assert rad("check").returncode == 2


def test_check_notes_a_file_that_is_switched_off(project, rad):
    (project / ".radium" / "mcp-proxy.toml").write_text("[mcp.proxy]\n")
    found = rad("check")
    assert found.returncode == 0
    assert "mcp.proxy.enable is false" in found.stdout


def test_plugins_lists_the_enabled_ones_in_order_and_then_the_rest(project, rad):
    with (project / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write('[[mcp.proxy.plugins]]\nname = "security_redact"\n[[mcp.proxy.plugins]]\nname = "conflict_reject"\n')
    found = rad("plugins", "--json")
    rows = json.loads(found.stdout)["plugins"]
    assert [(row["order"], row["plugin"], row["hooks"]) for row in rows[:2]] == [
        (1, "security_redact", ["before_call", "after_call"]),
        (2, "conflict_reject", ["resolve_conflict"]),
    ]
    others = [row["plugin"] for row in rows[2:] if row["order"] is None]
    assert len(others) == len(rows) - 2
    assert others == sorted(others)
    assert "conflict_autoprefix" in others
    assert "conflict_reject" in rad("plugins").stdout


def test_plugins_needs_no_configuration(rad, tmp_path_factory):
    found = rad("plugins", cwd=tmp_path_factory.mktemp("empty"))
    assert found.returncode == 0
    assert "routing_roundrobin" in found.stdout


def test_stop_lets_a_call_in_flight_finish(running, rad, spawn, status, wait_for):
    call = spawn("call", "slow", "--arg", "seconds=4")
    wait_for(lambda: status()["in_flight"] == 1)
    stopped = rad("stop")
    assert stopped.returncode == 0, stopped.stderr
    out, err = call.communicate(timeout=60)
    assert (call.returncode, out) == (0, "at last\n"), err


def test_stop_now_does_not_wait(running, rad, spawn, status, wait_for):
    call = spawn("call", "slow", "--arg", "seconds=100")
    wait_for(lambda: status()["in_flight"] == 1)
    stopped = rad("stop", "--now")
    assert stopped.returncode == 0, stopped.stderr
    call.communicate(timeout=60)
    assert call.returncode == 1, "it would have had the time to end well"


@pytest.mark.timeout(120)
def test_a_call_ends_in_time_if_its_gateway_freezes_in_the_middle(running, rad, spawn, status, wait_for):
    child = spawn("call", "slow", "--arg", "seconds=100")
    wait_for(lambda: status()["in_flight"] == 1 or child.poll() is not None)
    pid = status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        _, err = child.communicate(timeout=60)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert child.returncode == 1
    assert f"running (pid {pid}) but not answering" in err
    assert "no answer within 2 s; the call may have run" in err
    assert "to end it: rad mcp proxy stop --now" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_stdio_serves_one_agent_without_port_or_pid_file(with_server, environment, mode):
    config = with_server / ".radium" / "mcp-proxy.toml"
    gateway = StdioServerParameters(
        command=sys.executable,
        args=["-m", "gateway_core.cli", "mcp", "proxy", "start", "--stdio", "--config", str(config)],
        env=environment,
    )
    async with Client(gateway, mode=mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add", "slow", "fail"]
        assert (await client.call_tool("add", {"a": 2, "b": 3})).structured_content == {"result": 5}
        assert read_instance(config.with_suffix(".pid")) is None


def test_stdio_has_a_control_plane_that_only_tells_whether_it_is_up(with_server, spawn):
    child = spawn("start", "--stdio", stdin=subprocess.PIPE)
    line = next(line for line in child.stderr if "control plane listening" in line)
    address = re.search(r"address=(http://127\.0\.0\.1:\d+)", line)[1]
    for path, status in (("/healthz", 200), ("/admin/status", 401)):
        with contextlib.suppress(urllib.error.HTTPError):
            assert urllib.request.urlopen(address + path, timeout=60).status == status
    request = urllib.request.Request(address + "/admin/status", headers={"Authorization": "Bearer "})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(request, timeout=60)


def test_stdio_serves_its_agent_without_a_control_plane(with_server, spawn):
    with (with_server / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write('[mcp.proxy.control]\nhost = "192.0.2.1"\nport = 1\n')
    child = spawn("start", "--stdio", stdin=subprocess.PIPE)
    child.stdin.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    child.stdin.flush()
    assert json.loads(child.stdout.readline())["id"] == 1
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "no control plane: cannot listen on 192.0.2.1" in err


def test_the_control_plane_answers_while_the_gateway_drains(running, rad, spawn, status, wait_for):
    call = spawn("call", "slow", "--arg", "seconds=15")
    wait_for(lambda: status()["in_flight"] == 1)
    stopping = spawn("stop")
    wait_for(lambda: status()["draining"])
    shown = rad("status").stdout
    assert "draining" in shown
    assert call.wait(60) == 0
    assert stopping.wait(60) == 0


def test_stdio_writes_nothing_but_the_protocol_to_stdout(with_server, spawn):
    child = spawn("start", "--stdio", stdin=subprocess.PIPE)
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    child.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")
    child.stdin.flush()
    answer = json.loads(child.stdout.readline())
    assert answer["id"] == 1
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())


def test_stdio_ends_on_a_signal(with_server, spawn):
    child = spawn("start", "--stdio", stdin=subprocess.PIPE)
    child.stdin.write('{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
    child.stdin.flush()
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    child.wait(60)
    assert child.returncode == 0


def with_replicas(project):
    """The configuration file, with two more entries of the server of `project` that are one group."""
    config = project / ".radium" / "mcp-proxy.toml"
    upstream = config.read_text()[config.read_text().index("[[mcp") :]
    with config.open("a") as file:
        for name in ("second", "third"):
            file.write(upstream.replace('"calculator"', f'"{name}"') + 'group = "g"\n')
    return config


def test_check_says_which_upstreams_run_the_same_program(with_stdio_server, rad):
    with_replicas(with_stdio_server)
    assert "note: calculator and second run the same program and are two servers" in rad("check").stdout


def test_check_start_and_tools_say_which_upstreams_are_replicas_and_how_to_declare_them(with_server, rad):
    config = with_replicas(with_server)
    declared = 'second and third are replicas of the tools that they offer alike, because they are in group "g"'
    advice = 'give both the same `group`, for example group = "shared"'
    checked = rad("check").stdout
    assert f"note: {declared}" in checked
    assert "note: calculator and second have the same address and are two servers" in checked
    assert advice in checked
    shared = 'second and third are replicas, because they are in group "g": they share 3 tools'
    offers = "calculator and second offer the same under the same names (add, slow, fail) and are two servers"
    for found in (rad("check", "--connect").stdout, rad("tools").stdout):
        assert f"note: {shared}" in found
        assert f"note: {offers}" in found
        assert advice in found
    assert rad("start", "--detach").returncode == 0
    try:
        log = config.with_suffix(".log")
        deadline = time.monotonic() + 60
        while not (shared in log.read_text() and offers in log.read_text()):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert "calculator and second have the same address and are two servers" in log.read_text()
        running = rad("tools").stdout
        assert shared in running
        assert offers in running
        assert "tool add is claimed more than once: calculator has it as add; second and third have it as" in running
    finally:
        rad("stop")


def test_names_survive_a_restart_of_the_gateway(with_server, rad, wait_for_upstream):
    config = with_server / ".radium" / "mcp-proxy.toml"
    before = config.read_text()
    upstream = before[before.index("[[mcp") :]
    assert rad("start", "--detach").returncode == 0
    wait_for_upstream()
    assert rad("stop").returncode == 0
    names = with_server / ".radium" / "mcp-proxy.names"
    assert names.stat().st_mode & 0o777 == 0o600
    head = before[: before.index("[[mcp")]
    config.write_text(head + upstream.replace('"calculator"', '"newcomer"') + upstream)
    assert rad("start", "--detach").returncode == 0
    try:
        for name in ("calculator", "newcomer"):
            wait_for_upstream(name)
        found = json.loads(rad("tools", "--json").stdout)
        published = {tool["name"]: tool["upstreams"] for tool in found["tools"]}
        assert published["add"] == ["calculator"]
        assert published["newcomer__add"] == ["newcomer"]
        assert found["conflicts"][0]["outcome"] == (
            "newcomer has it as newcomer__add; calculator has it as add, because calculator had the name first"
        )
    finally:
        rad("stop")
