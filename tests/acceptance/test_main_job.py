"""The promises of the founding document, kept by real processes over real servers."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mcp import Client, MCPError

from gateway_core.config import load
from gateway_core.demo import http_server
from tests.acceptance.conftest import listening, wait_until
from tests.generations.conftest import SERVER as LIGHT
from tests.ports import free_port
from tests.servers.forks import Fork

QUICK_START = """
[mcp.proxy]
enable = true
port = {port}
transport = "http"

[[mcp.proxy.upstreams]]
name = "server1"
transport = "http"
url = "%s"
priority = 1
health_check_interval = 30

[[mcp.proxy.upstreams]]
name = "server2"
transport = "http"
url = "%s"
priority = 2
health_check_interval = 30

[mcp.proxy.security]
rate_limit_per_minute = 0
"""


async def call(client: Client, tool: str, **arguments: Any) -> str:
    """The text of a good result; an assertion error with the text of a bad one."""
    result = await client.call_tool(tool, arguments)
    text = "".join(getattr(block, "text", "") for block in result.content)
    assert not result.is_error, text
    return text


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_the_backup_serves_while_the_primary_is_away(gateway: Any, recorder: Any, mode: str) -> None:
    first, second = recorder("server1", wait=False), recorder("server2")
    first.ready()
    rad = gateway(QUICK_START % (first.url, second.url))
    await asyncio.to_thread(wait_healthy, rad, "server1", "server2")
    async with Client(rad.url, mode=mode, read_timeout_seconds=60) as agent:
        assert [await call(agent, "record", call_id=f"before{n}") for n in range(5)] == ["server1"] * 5
        first.kill()
        assert [await call(agent, "record", call_id=f"away{n}") for n in range(20)] == ["server2"] * 20
        first.start()
        first.ready()
        async with asyncio.timeout(100):
            while await call(agent, "record", call_id=f"again{time.monotonic()}") != "server1":
                await asyncio.sleep(0.2)


def wait_healthy(rad: Any, *names: str) -> None:
    wait_until(lambda: rad.is_healthy(*names), what=f"the connection with {names}")


@pytest.mark.timeout(180)
async def test_no_call_runs_twice_and_none_fails_that_was_not_in_flight(gateway: Any, recorder: Any) -> None:
    """Sixteen agents of both eras; one of two upstreams is killed and started again and again."""
    a, b = recorder("a", legacy=True, wait=False), recorder("b")
    a.ready()
    toml = QUICK_START.replace("priority = 2", "priority = 1").replace("server1", "a").replace("server2", "b")
    rad = gateway(toml % (a.url, b.url))
    await asyncio.to_thread(wait_healthy, rad, "a", "b")
    loop = asyncio.get_running_loop()
    kills: list[tuple[float, float]] = []
    failures: list[tuple[str, float, float, str]] = []
    done: list[str] = []
    stop = asyncio.Event()

    async def work(number: int) -> None:
        mode = "legacy" if number % 2 else "2026-07-28"
        async with Client(rad.url, mode=mode, read_timeout_seconds=60) as agent:
            for turn in range(100_000):
                if stop.is_set():
                    return
                call_id = f"{number}-{turn}"
                begun = loop.time()
                try:
                    await call(agent, "slow", call_id=call_id, seconds=0.2)
                except (AssertionError, MCPError) as error:
                    failures.append((call_id, begun, loop.time(), str(error)))
                else:
                    done.append(call_id)

    agents = [asyncio.create_task(work(number)) for number in range(16)]
    for _ in range(4):
        await asyncio.sleep(2)
        before = loop.time()
        a.kill()
        kills.append((before, loop.time()))
        await asyncio.sleep(0.5)
        a.start()
        await asyncio.to_thread(a.ready)
        await asyncio.to_thread(wait_healthy, rad, "a")
    await asyncio.sleep(1)
    async with asyncio.timeout(100):
        while len(done) <= 500:  # as many on a slow machine
            await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*agents)

    executed = a.begun() + b.begun()
    assert len(executed) == len(set(executed)), "a call was executed twice"
    assert set(done) <= set(executed)
    assert len(a.begun()) > 100, "the load was spread"
    for call_id, begun, ended, text in failures:
        assert any(begun <= late and early <= ended for early, late in kills), f"{call_id} failed without need: {text}"
        assert "outcome unknown" in text.lower(), text
    assert len(done) > 500


def test_strategies_are_swapped_by_one_line(gateway: Any, recorder: Any) -> None:
    first, second = recorder("server1", wait=False), recorder("server2")
    first.ready()
    plugins = '[[mcp.proxy.plugins]]\nname = "%s"\n'
    base = (QUICK_START % (first.url, second.url)).partition("[mcp.proxy.security]")[0]
    spread = {}
    for routing in ("routing_priority", "routing_roundrobin"):
        rad = gateway(base + plugins % routing)
        wait_healthy(rad, "server1", "server2")
        answers = asyncio.run(ten_calls(rad.url, routing))
        spread[routing] = (answers.count("server1"), answers.count("server2"))
    assert spread == {"routing_priority": (10, 0), "routing_roundrobin": (5, 5)}


async def ten_calls(url: str, label: str) -> list[str]:
    async with Client(url, read_timeout_seconds=60) as agent:
        return [await call(agent, "record", call_id=f"{label}{n}") for n in range(10)]


CLASH = """
[mcp.proxy]
enable = true
port = {port}

[[mcp.proxy.upstreams]]
name = "low"
transport = "stdio"
command = "%(python)s"
args = ["%(light)s", "low", "lookup"]
priority = 2

[[mcp.proxy.upstreams]]
name = "high"
transport = "http"
url = "%(url)s"
priority = 1

[[mcp.proxy.plugins]]
name = "%(conflict)s"
"""


@pytest.fixture
def cities() -> Iterator[str]:
    """A demonstration server with a tool `lookup`."""
    port = free_port()
    server = Fork(str(http_server.__file__), "--port", str(port), quiet=True)
    wait_until(lambda: listening(port), what="the server")
    yield f"http://127.0.0.1:{port}/mcp"
    server.kill()
    server.wait(60)


def test_conflict_strategies_are_swapped_by_one_line(gateway: Any, cities: str) -> None:
    """Another server has a `lookup` with another schema."""
    published = {}
    for conflict in ("conflict_autoprefix", "conflict_reject", "conflict_priority"):
        rad = gateway(CLASH % {"python": sys.executable, "light": LIGHT, "url": cities, "conflict": conflict})
        wait_healthy(rad, "low", "high")
        tools = {tool["name"]: tool["upstreams"] for tool in rad.page("tools")["tools"]}
        published[conflict] = {name: owners for name, owners in tools.items() if "lookup" in name}
    assert published == {
        "conflict_autoprefix": {"lookup": ["low"], "high__lookup": ["high"]},
        "conflict_reject": {"lookup": ["low"]},
        "conflict_priority": {"lookup": ["high"]},
    }


def children_of(pid: int) -> set[int]:
    """All descendants, from /proc."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    parents[int(entry)] = int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="finds descendants in /proc")
def test_kill_9_of_the_gateway_leaves_no_child(gateway: Any) -> None:
    stdio = '[[mcp.proxy.upstreams]]\nname = "%s"\ntransport = "stdio"\ncommand = "%s"\nargs = %s\n'
    stubborn = (
        "import runpy, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "runpy.run_module('gateway_core.demo.stdio_server', run_name='__main__')"
    )
    toml = "[mcp.proxy]\nenable = true\nport = {port}\n"
    toml += stdio % ("polite", sys.executable, '["-m", "gateway_core.demo.stdio_server"]')
    toml += stdio % ("stubborn", sys.executable, f'["-c", "{stubborn}"]')
    rad = gateway(toml)
    wait_healthy(rad, "polite", "stubborn")
    children = children_of(rad.process.pid)
    assert len(children) >= 2
    rad.process.send_signal(signal.SIGKILL)
    rad.process.wait(60)
    deadline = time.monotonic() + 60
    while alive := [pid for pid in children if is_running(pid)]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="counts page faults in /proc, which glibc's settings spare")
async def test_memory_of_large_results_is_used_again(gateway: Any, recorder: Any) -> None:
    server = recorder("server1")
    rad = gateway(QUICK_START % (server.url, "http://127.0.0.1:9/mcp"))
    await asyncio.to_thread(wait_healthy, rad, "server1")
    async with Client(rad.url, mode="legacy", read_timeout_seconds=60) as agent:

        async def of_megabytes(calls: int) -> tuple[float, int]:
            """(page faults for each call, bytes of memory afterwards)"""
            before, _ = memory_of(rad.process.pid)
            for _ in range(calls):
                assert len(await call(agent, "repeat", text="x" * 100, times=10_000)) == 1_000_000
            faults, resident = memory_of(rad.process.pid)
            return (faults - before) / calls, resident

        _, resident = await of_megabytes(10)
        faults, later = await of_megabytes(30)
    assert faults < 100, "a megabyte is 250 pages"
    assert later - resident < 20_000_000


def memory_of(pid: int) -> tuple[int, int]:
    """(page faults so far, bytes in memory), from /proc."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return int(fields[7]), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("example", ["quick start"])
def test_the_founding_documents_example_is_accepted_as_it_stands(tmp_path: Any, example: str) -> None:
    file = tmp_path / "mcp-proxy.toml"
    file.write_text(
        (QUICK_START % ("http://localhost:8080/mcp", "http://localhost:8081/mcp")).replace("{port}", "3000")
    )
    config = load(file)
    assert [plugin.name for plugin in config.proxy.plugins] == [
        "routing_priority",
        "conflict_autoprefix",
        "security_ratelimit",
        "security_redact",
    ]


async def test_calls_in_flight_finish_before_the_gateway_stops(gateway: Any, recorder: Any) -> None:
    server = recorder("server1")
    rad = gateway(QUICK_START % (server.url, "http://127.0.0.1:9/mcp"))
    await asyncio.to_thread(wait_healthy, rad, "server1")
    clients = [Client(rad.url, mode=mode, read_timeout_seconds=60) for mode in ("legacy", "2026-07-28")]
    async with clients[0] as legacy, clients[1] as modern:
        for agent in (legacy, modern):
            await agent.list_tools()  # else the client lists after its call, to check the result by the schema
        calls = [
            asyncio.create_task(call(agent, "slow", call_id=str(number), seconds=2.0))
            for number, agent in enumerate((legacy, modern))
        ]
        async with asyncio.timeout(60):
            while len(server.begun()) < 2:
                await asyncio.sleep(0.02)
        rad.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*calls) == ["server1", "server1"]
    assert await asyncio.to_thread(rad.process.wait, 60) == 0
