"""Watching upstreams: backoff, ejection, reconnection, with real child processes and a real HTTP server."""

import asyncio
import itertools
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from gateway_core import health, hookimpl
from gateway_core.chain import Chain, LoadedPlugin
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.errors import Busy
from gateway_core.exchange import Agent, Exchange
from gateway_core.health import HealthMonitor
from gateway_core.outage import Backoff, PassiveChecks
from gateway_core.types import Health, Principal, UpstreamState, UpstreamView
from gateway_core.upstream.places import Place
from gateway_core.upstream.upstream import Upstream


def test_backoff_doubles_under_full_jitter_up_to_a_minute() -> None:
    class Highest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0.0
            return b

    backoff = Backoff(Highest())
    assert [backoff.next() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.next() == 1


def test_five_failures_in_a_row_eject() -> None:
    passive = PassiveChecks()
    assert [passive.failed(now) for now in range(5)] == [False] * 4 + [True]


def test_a_success_begins_the_row_anew() -> None:
    passive = PassiveChecks()
    for now in range(4):
        passive.failed(now)
    passive.succeeded(4)
    assert not passive.failed(5)


def test_half_of_ten_failures_eject() -> None:
    passive = PassiveChecks()
    assert _every_second_fails(passive, 0, 10) == [False] * 4 + [True]


def test_old_failures_are_forgotten() -> None:
    passive = PassiveChecks()
    for now in range(4):
        passive.failed(now)
    passive.succeeded(100)
    assert _every_second_fails(passive, 100, 8) == [False] * 4


def _every_second_fails(passive: PassiveChecks, begin: int, calls: int) -> list[bool]:
    """One call a second; what the failed ones made of it."""
    verdicts = []
    for now in range(begin, begin + calls, 2):
        passive.succeeded(now)
        verdicts.append(passive.failed(now + 1))
    return verdicts


def stdio(name: str = "s", *args: str, **settings: Any) -> Upstream:
    command = settings.pop("command", sys.executable)
    arguments = args or ("-m", "gateway_core.demo.stdio_server")
    config = UpstreamConfig(name=name, transport="stdio", command=command, args=arguments, **settings)
    return Upstream(config, ProxyConfig(), 0)


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., HealthMonitor]]:
    monitors: list[HealthMonitor] = []
    upstreams: list[Upstream] = []

    def start(*watched: Upstream, chain: Chain | None = None, on_change: Callable[[], None] = lambda: None) -> Any:
        monitor = HealthMonitor(watched, chain or Chain([]), on_change)
        monitor.start()
        monitors.append(monitor)
        upstreams.extend(watched)
        return monitor

    yield start
    for monitor in monitors:
        await monitor.stop()
    for upstream in upstreams:
        await upstream.close()


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


_QUOTES_ITS_TOKEN = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        error = {"code": -32000, "message": "no such token: " + os.environ["TOKEN"]}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}), flush=True)
"""


async def test_an_error_that_quotes_a_secret_of_the_configuration_shows_it_nowhere(
    watch: Callable[..., HealthMonitor],
) -> None:
    seen: list[str] = []
    handler = logger.add(seen.append, level="DEBUG")  # type: ignore[arg-type]
    upstream = stdio("s", "-c", _QUOTES_ITS_TOKEN, env={"TOKEN": "hush-token"})
    watch(upstream)
    await until(lambda: upstream.last_error is not None)
    logger.remove(handler)
    assert "no such token: ***" in (upstream.last_error or "")
    assert any("no such token: ***" in line for line in seen)
    assert not any("hush-token" in line for line in seen)


async def test_a_child_that_dies_is_started_again(watch: Callable[..., HealthMonitor]) -> None:
    upstream = stdio()
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    assert upstream.facts.state is UpstreamState.HEALTHY
    first = upstream.connection
    await first.close()  # type: ignore[union-attr]
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    assert upstream.inventory is not None, "it keeps its place in the catalog"
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
    assert upstream.connection is not first


async def test_a_command_that_fails_is_tried_at_most_once_a_second(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = stdio("bad", command="false")
    starts: list[float] = []
    connect = upstream.connect

    async def counted() -> None:
        starts.append(asyncio.get_running_loop().time())
        await connect()

    monkeypatch.setattr(upstream, "connect", counted)
    watch(upstream)
    await asyncio.sleep(3.3)
    assert 2 <= len(starts) <= 4
    assert all(later - earlier >= 0.95 for earlier, later in itertools.pairwise(starts))
    assert upstream.facts.state is UpstreamState.DOWN
    assert "exited" in (upstream.last_error or "")


async def test_a_bug_costs_a_round_and_its_text_reaches_no_log(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = stdio()
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line)))

    async def broken() -> None:
        raise ValueError("-".join(("canary", "secret")))  # a log shows source lines, which hold no payload

    monkeypatch.setattr(upstream, "connect", broken)
    watch(upstream)
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    monkeypatch.undo()
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
    logger.remove(sink)
    assert "upstream s: a bug in the gateway: ValueError" in "".join(lines)
    assert "in broken" in "".join(lines), "where it was"
    assert "canary-secret" not in "".join(lines)


async def test_one_that_is_down_delays_no_other(watch: Callable[..., HealthMonitor]) -> None:
    with socket.socket() as silent:  # accepts nobody: the handshake hangs
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        hanging = Upstream(UpstreamConfig(name="h", transport="http", url=url), ProxyConfig(), 0)
        good = stdio()
        watch(hanging, good)
        await until(lambda: good.facts.state is UpstreamState.HEALTHY)
        assert hanging.facts.state is UpstreamState.CONNECTING


async def test_a_stopped_child_is_found_out_by_checks(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(health, "DOUBT_INTERVAL", 0.05)
    monkeypatch.setattr("gateway_core.upstream.upstream.PING_TIMEOUT", 0.2)
    told = tmp_path / "pid"
    code = (
        f"import os, pathlib; pathlib.Path({str(told)!r}).write_text(str(os.getpid()));"
        "import runpy; runpy.run_module('gateway_core.demo.stdio_server', run_name='__main__')"
    )
    upstream = stdio("s", "-c", code, health_check_interval=0.2)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    os.kill(int(told.read_text()), signal.SIGSTOP)
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    assert "health checks failed" in (upstream.last_error or "")


async def test_ejection_ends_after_its_time_with_a_good_check(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "EJECT_FIRST", 0.3)
    upstream = stdio()
    changes: list[UpstreamState] = []
    monitor = watch(upstream, on_change=lambda: changes.append(upstream.facts.state))
    await monitor.wait_first_attempts(15)
    for _ in range(5):
        upstream.on_transport("reset", True)
    assert upstream.facts.state is UpstreamState.EJECTED
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY, 5)


class Verdict:
    """A plugin that decides about health."""

    def __init__(self, health: Health | None) -> None:
        self.health = health

    @hookimpl
    async def check_health(self, upstream: UpstreamView) -> Health | None:
        return self.health


async def test_a_plugins_finding_takes_the_place_of_the_cores_check(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DOUBT_INTERVAL", 0.02)
    plugin = LoadedPlugin(
        "verdict", Verdict(Health(False, "it is raining")), "1", "d", ("check_health",), "reject", frozenset()
    )
    upstream = stdio(health_check_interval=0.1)
    watch(upstream, chain=Chain([plugin]))
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    assert "it is raining" in (upstream.last_error or "")


async def test_a_full_queue_says_nothing_about_health(watch: Callable[..., HealthMonitor]) -> None:
    upstream = stdio(max_in_flight=1)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    agent = Agent(Principal("a"), "modern", "2026-07-28")
    async with Place(upstream.places, Exchange(agent, "tools/call")):
        waiting = [
            asyncio.create_task(upstream.request(Exchange(agent, "tools/call"), "tools/call", {"name": "now"}, None))
            for _ in range(10)
        ]
        done, held = await asyncio.wait(waiting, timeout=0.3)
        assert [type(task.exception()) for task in done] == [Busy] * 8
    await asyncio.gather(*held)
    assert upstream.facts.state is UpstreamState.HEALTHY
    assert upstream.errors == 0


async def test_a_lost_connection_is_opened_again_before_anybody_is_told_that_it_is_down(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "BACKOFF_FIRST", 0.2)
    upstream = stdio()
    states: list[UpstreamState] = []
    monitor = watch(upstream, on_change=lambda: states.append(upstream.facts.state))
    await monitor.wait_first_attempts(15)
    await asyncio.sleep(0.3)
    first = upstream.connection
    await first.close()  # type: ignore[union-attr]
    await until(lambda: upstream.connection is not first)
    assert set(states) == {UpstreamState.HEALTHY}


async def test_a_server_that_was_only_out_of_reach_comes_back_with_two_good_checks(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DOUBT_INTERVAL", 0.05)
    reset, refused = stdio("reset"), stdio("refused")
    monitor = watch(reset, refused)
    await monitor.wait_first_attempts(15)
    for sent in (True, False, False, False, False):  # killed with a call in flight, then nobody is there
        reset.on_transport("reset", True)
        refused.on_transport("reset or refused", sent)
    assert {reset.facts.state, refused.facts.state} == {UpstreamState.EJECTED}
    await until(lambda: refused.facts.state is UpstreamState.HEALTHY, 5)
    assert reset.facts.state is UpstreamState.EJECTED
