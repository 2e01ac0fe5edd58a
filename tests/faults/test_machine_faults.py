"""Rows of the fault matrix in which the machine or the load breaks something: descriptors, memory, clock, ports."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway_core.errors import UPSTREAM_UNAVAILABLE
from tests.faults.conftest import (
    Answer,
    Bystanders,
    Started,
    over_http,
    over_stdio,
    request,
    wait_until,
)
from tests.ports import free_port

LISTENERS = int(os.environ.get("RADIUM_FAULTS_LISTENERS", "1000"))
"""Idle agents of row 40; 10,000 need as many descriptors on both sides, and a minute."""
MB = 1024 * 1024
CLOCK = """
import os, time

_real = time.time


def _jumped():
    with open(os.environ["CLOCK"]) as file:
        return _real() + float(file.read() or 0)


time.time = _jumped
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc, and limits them")


async def test_row_09_connection_refused(started: Started) -> None:
    """The call goes to the replica, and a call without one gets an error that says that nothing was executed."""
    url, journal = started.server("there")
    gone = f"http://127.0.0.1:{free_port()}/mcp"
    first, journal_of_first = started.server("first", port := free_port())
    rad = started.gateway(
        [
            over_http("first", first, group="both", priority=1, health_check_interval=3600),
            over_http("second", url, group="both", priority=2),
            over_http("gone", gone),
        ],
        plugins=[{"name": "routing_priority"}],
    )
    rad.wait_for("first", "second")
    assert (await rad.call("ok")).text == "ok"
    assert journal_of_first.read_text() == "ok\n"
    started.stop_server(port)
    answers = [await rad.call("ok") for _ in range(5)]
    assert [answer.text for answer in answers] == ["ok"] * 5
    assert journal.read_text().split() == ["ok"] * 5
    rad.wait_for("gone", state="down")


@linux
async def test_row_40_idle_listeners(started: Started) -> None:
    """Many agents that only listen take little memory, and calls among them are answered."""
    rad = started.gateway([over_stdio("pipe")], max_connections=LISTENERS + 50, limits={"in_flight": LISTENERS + 100})
    rad.wait_for("pipe")
    async with Bystanders(rad, ("pipe__ok",), seconds=0, each=50):
        pass
    before = rad.resident()
    headers, body = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        responses: list[aiohttp.ClientResponse] = []
        for start in range(0, LISTENERS, 100):
            requests = (http.post(rad.url, headers=headers, json=body) for _ in range(min(100, LISTENERS - start)))
            responses += await asyncio.gather(*requests)
        assert {response.status for response in responses} == {200}
        for response in responses:
            assert b"acknowledged" in await response.content.readuntil(b"acknowledged")
        each = (rad.resident() - before) / LISTENERS
        assert each < 40 * 1024
        async with Bystanders(rad, ("pipe__ok",), seconds=0, each=20):
            pass
        used = rad.processor_seconds()
        await asyncio.sleep(2)
        assert rad.processor_seconds() - used < 1.0, "listeners that wait cost next to nothing"
        for response in responses:
            response.close()
    wait_until(lambda: rad.descriptors() < 100, "the descriptors of all listeners are closed")


@linux
async def test_row_43_no_descriptors(started: Started) -> None:
    """Without descriptors nothing spins; with them everything goes on."""
    rad = started.gateway(
        [over_stdio("pipe")], of_process={resource.RLIMIT_NOFILE: 128}, max_connections=1000, drain_timeout=1
    )
    rad.wait_for("pipe")
    async with aiohttp.ClientSession() as http:  # a connection from before goes on throughout
        assert (await rad.call("pipe__ok", http)).text == "ok"
        held = [await asyncio.open_connection("127.0.0.1", rad.port) for _ in range(200)]
        await asyncio.sleep(1)
        used = rad.processor_seconds()
        await asyncio.sleep(2)
        assert rad.processor_seconds() - used < 1.0, "it spins"
        assert (await rad.call("pipe__ok", http)).text == "ok"
        for _, writer in held:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in held), return_exceptions=True)
    wait_until(lambda: rad.answers("/healthz") == 200, "new connections are accepted")
    assert (await rad.call("pipe__ok")).text == "ok"
    wait_until(lambda: rad.descriptors() < 60, "the descriptors are closed")


@linux
@pytest.mark.timeout(120)
async def test_row_44_memory_pressure(started: Started) -> None:
    """Within a bounded address space, new work is refused before memory ends, and everything is given back."""
    limit = 900 * MB
    rad = started.gateway(
        [over_http("wild", started.server("wild")[0]), over_stdio("pipe")],
        of_process={resource.RLIMIT_AS: limit},
        max_connections=200,
        limits={"request_body": 8 * MB},
    )
    rad.wait_for("wild", "pipe")
    large = "x" * (7 * MB)

    async def call(tool: str, **arguments: Any) -> Answer:
        try:
            return await rad.call(tool, **arguments)
        except aiohttp.ClientError:
            return Answer(0, {}, {})

    async def flood() -> list[Answer]:
        return [await call("wild__ok", seconds=1, text=large) for _ in range(2)]

    floods = [asyncio.create_task(flood()) for _ in range(40)]
    small: list[Answer] = []
    while not all(task.done() for task in floods):
        small.append(await call("pipe__ok"))
        await asyncio.sleep(0.05)
    answers = [answer for task in floods for answer in task.result()]
    assert rad.process.poll() is None, f"it ended:\n{rad.text}"
    refused = [answer for answer in answers if answer.status == 503]
    assert refused, "40 requests of 7 MB do not fit"
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    assert all(answer.text == "ok" or answer.status == 503 for answer in (*answers, *small))
    assert "MemoryError" not in rad.text
    wait_until(lambda: rad.answers() == 200, "it is ready again")
    again = [await call("wild__ok", text=large), await call("pipe__ok")]
    assert [answer.text for answer in again] == ["ok", "ok"]


@linux
async def test_row_45_full_disk(started: Started, tmp_path: Path) -> None:
    """A log that cannot be written costs its lines, not the calls; it is reported once."""
    full = tmp_path / "full.log"
    full.symlink_to("/dev/full")
    rad = started.gateway([over_stdio("pipe")], log={"level": "DEBUG", "file": str(full)})
    rad.wait_for("pipe")
    assert [(await rad.call("pipe__ok")).text for _ in range(20)] == ["ok"] * 20
    reported = "the log file cannot be written, and lines are dropped"
    wait_until(lambda: reported in rad.text, "it is reported")
    assert rad.text.count(reported) == 1


@pytest.mark.parametrize("hours", [1, -1])
async def test_row_53_clock_jump(started: Started, tmp_path: Path, hours: int) -> None:
    """Rate limits, sessions, deadlines and pauses do not follow the wall clock."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    rad = started.gateway(
        [over_stdio("pipe"), over_http("gone", f"http://127.0.0.1:{free_port()}/mcp")],
        env={"CLOCK": str(clock), "PYTHONPATH": str(tmp_path)},
        plugins=[
            {"name": "conflict_autoprefix", "prefix": "always"},
            {"name": "security_ratelimit", "rate_limit_per_minute": 1, "burst": 3},
        ],
    )
    rad.wait_for("pipe")
    async with aiohttp.ClientSession() as http:
        start = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}
        session: dict[str, str] = {}

        async def send(method: str, params: dict[str, Any]) -> Any:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            headers = {"Accept": "application/json, text/event-stream", **session}
            async with http.post(rad.url, json=body, headers=headers) as response:
                if "Mcp-Session-Id" in response.headers:
                    session["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
                return await response.json(content_type=None)

        await send("initialize", start)
        call = {"name": "pipe__ok", "arguments": {}}
        assert [("result" in await send("tools/call", call)) for _ in range(4)] == [True, True, True, False]
        clock.write_text(str(hours * 3600))
        await asyncio.sleep(1.5)  # the housekeeping sees the jump
        assert "result" in await send("ping", {}), "the session is still there"
        assert "error" in await send("tools/call", call), "the limit has not been refilled"
    jumped = time.strftime("%Y-%m-%dT%H:", time.localtime(time.time() + hours * 3600 - 30))
    wait_until(lambda: jumped in rad.text, "the log shows that the clock of the process jumped")
    assert rad.status()["pipe"]["state"] == "healthy"
    pauses: list[float | None] = [None]

    def pauses_again() -> bool:
        pauses.append(rad.status()["gone"]["next_retry_in"])
        return pauses[-1] is not None

    wait_until(pauses_again, "it waits for its next attempt")
    assert 0 <= (pauses[-1] or 0) <= 60
    assert (await rad.call("pipe__ok")).text == "ok", "an agent with another name has its own limit"


@pytest.mark.timeout(120)
async def test_row_60_flapping_upstream(started: Started) -> None:
    """An upstream that comes and goes every second changes its state rarely, and its tools stay listed."""
    port = free_port()
    url, _ = started.server("flaps", port)
    rad = started.gateway([over_http("flaps", url, health_check_interval=1), over_stdio("pipe")])
    rad.wait_for("flaps", "pipe")
    states: list[str] = []
    lists: set[frozenset[str]] = set()
    end = time.monotonic() + 15
    up = True
    while time.monotonic() < end:
        started.stop_server(port) if up else started.server("flaps", port)
        up = not up
        states.append(rad.status()["flaps"]["state"])
        listed = rad.page("tools")
        lists.add(frozenset(tool["name"] for tool in listed["tools"]))
        assert (await rad.call("pipe__ok")).text == "ok"
        await asyncio.sleep(0.5)
    changes = sum(before != after for before, after in itertools.pairwise(states))
    # the longest wait doubles with each loss, and each wait is drawn by chance: about 20 would follow every change
    assert changes <= 6, states
    assert len(lists) == 1


async def test_row_59_all_upstreams_of_a_tool_are_down(started: Started) -> None:
    """The error comes at once, says that nothing was executed, names every upstream, and says when to come back."""
    ports = {name: free_port() for name in ("first", "second")}
    rad = started.gateway(
        [
            *(over_http(name, started.server(name, port)[0], group="both") for name, port in ports.items()),
            over_stdio("pipe"),
        ],
        plugins=[{"name": "routing_priority"}],
    )
    rad.wait_for(*ports)
    for port in ports.values():
        started.stop_server(port)
    for _ in range(2):
        error = (await rad.call("hang_up")).message["error"]
        assert error["code"] == UPSTREAM_UNAVAILABLE
        assert all(name in error["message"] for name in ports)
        rad.wait_for(*ports, state="down")
    assert error["data"]["retryAfterMs"] > 0
    assert {tool["name"] for tool in rad.page("tools")["tools"]} >= {"hang_up", "die"}, "the tools stay listed"
    assert (await rad.call("die")).unknown, "the tools of another upstream are called"


async def test_row_52_reload_under_load(started: Started) -> None:
    """SIGHUP adds and removes an upstream, again and again, and the others keep their processes."""
    rad = started.gateway([over_stdio("pipe")], log={"format": "json"})
    rad.wait_for("pipe")
    before, descriptors = rad.family(), rad.descriptors()
    right, problem = rad.config.read_text(), f"{rad.config}:40: mcp.proxy.timeout"
    url, _ = started.server("added")
    added = f'\n[[mcp.proxy.upstreams]]\nname = "added"\ntransport = "http"\nurl = "{url}"\n'
    done: list[Answer] = []
    over = asyncio.Event()

    async def call_on() -> None:
        async with aiohttp.ClientSession() as http:
            while not over.is_set():
                done.append(await rad.call("pipe__ok", http))

    calling = [asyncio.create_task(call_on()) for _ in range(8)]
    await asyncio.to_thread(wait_until, lambda: done, "a call in the first generation", 60)
    for number in range(10):
        rad.config.write_text(right + (added if number % 2 == 0 else ""))
        rad.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(
            wait_until, lambda number=number: rad.text.count("was reloaded") > number, "a reload", 60
        )
        rad.config.write_text("[mcp.proxy]\nenable = true\n" + "\n" * 37 + "timeout = 'long'\n")
        rad.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(wait_until, lambda number=number: rad.text.count(problem) > number, "the problem", 60)
    over.set()
    await asyncio.gather(*calling)
    assert len(done) > 80
    assert {answer.text for answer in done} == {"ok"}
    assert rad.status().keys() == {"pipe"}
    assert before == rad.family()
    wait_until(lambda: rad.descriptors() <= descriptors + 1, "connections are closed", 60)
    lines = [json.loads(line) for line in rad.text.splitlines() if '"tool"' in line]
    assert {line["generation"] for line in lines} == set(range(1, 12))
