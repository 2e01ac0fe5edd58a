"""What operators see of a running gateway, and do to it: calls, sessions, upstreams."""

import json
import urllib.request
from types import SimpleNamespace
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.control.live import LiveCalls
from gateway_core.exchange.exchange import Agent, Exchange

pytestmark = pytest.mark.timeout(180)  # several processes start, one after the other


def read(rad: Any, command: str) -> Any:
    done = rad(command, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("shared_gateway")
def test_a_call_in_flight_is_shown_and_can_be_cancelled(spawn: Any, rad: Any, wait_for: Any) -> None:
    wait_for(lambda: "no calls are in flight" in rad("calls").stderr)  # other tests have called, too
    agent = spawn("call", "slow", "--arg", "seconds=100")
    found: list[Any] = []

    def in_flight() -> bool:
        found[:] = [one for one in read(rad, "calls")["calls"] if one["name"] == "slow"]
        return bool(found) and found[0]["sent"]

    wait_for(in_flight, 60)
    (call,) = found
    assert (call["method"], call["upstream"], call["era"], call["verified"]) == (
        "tools/call",
        "calculator",
        "modern",
        False,
    )
    assert call["agent"].startswith("rad@")
    assert call["seconds"] >= 0
    shown = rad("calls").stdout
    assert call["id"] in shown
    assert "sent" in shown
    done = rad("calls", "--cancel", call["id"])
    assert (done.returncode, done.stderr) == (0, f"cancelled {call['id']}\n")
    _, told = agent.communicate(timeout=60)
    assert agent.returncode == 1
    assert "an operator cancelled the call" in told + _
    wait_for(lambda: read(rad, "calls")["calls"] == [])


@pytest.mark.usefixtures("shared_gateway")
@pytest.mark.parametrize(("command", "option"), [("calls", "--cancel"), ("sessions", "--end")])
def test_what_is_not_there_is_an_error(rad: Any, command: str, option: str) -> None:
    done = rad(command, option, "no/such?id")
    assert done.returncode == 1
    assert "there is no" in done.stderr


@pytest.mark.usefixtures("shared_gateway")
def test_a_session_is_shown_without_its_id_and_can_be_ended(rad: Any, status: Any) -> None:
    assert "no sessions are open" in rad("sessions").stderr
    client = {"name": "old \x1b[2J", "version": "7"}
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def post(method: str, params: Any, **more: str) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        url = f"{status()['address']}/mcp"
        return urllib.request.urlopen(urllib.request.Request(url, body, {**headers, **more}), timeout=60)

    session_id = post("initialize", hello).headers["Mcp-Session-Id"]
    done = rad("sessions", "--json")
    assert session_id not in done.stdout
    (session,) = json.loads(done.stdout)["sessions"]
    assert (session["client"], session["protocol_version"]) == ("old \x1b[2J 7", "2025-11-25")
    shown = rad("sessions").stdout
    assert session["key"] in shown
    assert "\x1b" not in shown
    assert rad("sessions", "--end", session["key"]).returncode == 0
    with pytest.raises(urllib.error.HTTPError, match="404"):
        post("tools/list", {}, **{"Mcp-Session-Id": session_id, "MCP-Protocol-Version": "2025-11-25"})


@pytest.mark.usefixtures("shared_gateway")
def test_an_upstream_is_connected_again(rad: Any, spawn: Any, status: Any, wait_for: Any) -> None:
    (before,) = (one["connects"] for one in status()["upstreams"] if one["name"] == "calculator")
    agent = spawn("call", "slow", "--arg", "seconds=8")
    wait_for(lambda: [one for one in read(rad, "calls")["calls"] if one["sent"]], 60)
    done = rad("reconnect", "calculator")
    assert done.returncode == 0, done.stderr
    assert "calculator is connected" in done.stderr
    found = {one["name"]: one for one in read(rad, "status")["upstreams"]}
    assert (found["calculator"]["state"], found["calculator"]["connects"]) == ("healthy", before + 1)
    out, err = agent.communicate(timeout=60)
    assert (agent.returncode, out) == (0, "at last\n"), f"a call in flight ends first: {err}"
    assert rad("call", "add", "--arg", "a=1", "--arg", "b=1").stdout == "2\n"


@pytest.mark.usefixtures("shared_gateway")
def test_an_upstream_that_cannot_be_reached_is_said_with_the_reason(rad: Any) -> None:
    done = rad("reconnect", "gone")
    assert done.returncode == 1
    assert "gone is down: " in done.stderr
    assert "cannot connect to 127.0.0.1:9" in done.stderr
    unknown = rad("reconnect", "other")
    assert (unknown.returncode, "there is no enabled upstream 'other'" in unknown.stderr) == (1, True)


@pytest.mark.parametrize("command", ["calls", "sessions"])
def test_without_a_gateway_they_say_so(rad: Any, command: str) -> None:
    assert rad(command).returncode == 3


@pytest.mark.parametrize(
    ("method", "name", "shown"),
    [
        ("resources/read", "https://ada:pw@example.com/file?token=x", "https://***@example.com/file?…"),
        ("tasks/get", "the-id-that-opens-it", ""),
        ("tools/call", "n" * 1000, "n" * 300),
    ],
)
def test_names_are_shown_as_in_the_log(method: str, name: str, shown: str) -> None:
    exchange = Exchange(Agent(Principal("ada"), "modern", "2026-07-28"), method)
    called: Any = SimpleNamespace(name=name)
    exchange.identify(called)
    running = [SimpleNamespace(about=exchange, started=0.0)]
    pipeline: Any = SimpleNamespace(deadlines=SimpleNamespace(running=running))
    parking: Any = SimpleNamespace(calls=list)
    (call,) = LiveCalls(lambda: [pipeline], parking).listing()
    assert call["name"] == shown
