"""Watching upstreams: backoff, ejection, reconnection, with real child processes and a real HTTP server."""

import asyncio
import itertools
import json
import os
import random
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from loguru import logger

from gateway_core import hookimpl
from gateway_core.api import Health, Principal, UpstreamState, UpstreamView
from gateway_core.config import AuthConfig, ProxyConfig, UpstreamConfig
from gateway_core.control import report
from gateway_core.errors import Busy, DeliveryError, NotSent, Permanent, RefusedUpstream, RpcError
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.inline.deadlines import Deadlines
from gateway_core.inline.driver import InlineCall
from gateway_core.upstream import watch as watch_module
from gateway_core.upstream.auth import Login, Logins
from gateway_core.upstream.auth.logins import GATEWAY, Client
from gateway_core.upstream.health import HealthMonitor
from gateway_core.upstream.requests import Request
from gateway_core.upstream.upstream import Upstream
from tests.login_kit import Tracker
from tests.upstream.watch_kit import SERVERS, HandClock, Journal, Longest, stdio, until, watching


@pytest.fixture
async def watch() -> AsyncIterator[Callable[..., HealthMonitor]]:
    monitors: list[HealthMonitor] = []
    upstreams: list[Upstream] = []

    def start(
        *watched: Upstream,
        chain: Chain | None = None,
        on_change: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> Any:
        monitor = HealthMonitor(watched, chain or Chain([]), on_change, rng)
        monitor.start()
        monitors.append(monitor)
        upstreams.extend(watched)
        return monitor

    yield start
    for monitor in monitors:
        await monitor.stop()
    for upstream in upstreams:
        await upstream.close()


async def test_a_child_that_dies_is_started_again(watch: Callable[..., HealthMonitor]) -> None:
    upstream = stdio()
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    assert upstream.facts.state is UpstreamState.HEALTHY
    first = upstream.connections.main
    await first.close()  # type: ignore[union-attr]
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    assert upstream.fetched is not None, "it keeps its place in the catalog"
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
    assert upstream.connections.main is not first


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
    assert "exited" in (upstream.status.last_error or "")


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
    monkeypatch.setattr(watch_module, "DOUBT_INTERVAL", 0.05)
    monkeypatch.setattr("gateway_core.upstream.liveness.PING_TIMEOUT", 0.2)
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
    assert "health checks failed" in (upstream.status.last_error or "")


async def test_ejection_ends_after_its_time_with_a_good_check(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.signals.EJECT_FIRST", 0.3)
    upstream = stdio()
    changes: list[UpstreamState] = []
    monitor = watch(upstream, on_change=lambda: changes.append(upstream.facts.state))
    await monitor.wait_first_attempts(15)
    for _ in range(5):
        upstream.signals.failed("reset", sent=True)
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
    monkeypatch.setattr(watch_module, "DOUBT_INTERVAL", 0.02)
    plugin = LoadedPlugin(
        "verdict", Verdict(Health(False, "it is raining")), "1", "d", ("check_health",), "reject", frozenset()
    )
    upstream = stdio(health_check_interval=0.1)
    watch(upstream, chain=Chain([plugin]))
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    assert "it is raining" in (upstream.status.last_error or "")


async def test_a_full_queue_says_nothing_about_health(watch: Callable[..., HealthMonitor]) -> None:
    upstream = stdio(max_in_flight=1)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    agent = Agent(Principal("a"), "modern", "2026-07-28")
    assert upstream.limiter.acquire_now()
    waiting = [
        asyncio.create_task(upstream.request(Exchange(agent, "tools/call"), Request("tools/call", {"name": "now"})))
        for _ in range(10)
    ]
    done, held = await asyncio.wait(waiting, timeout=0.3)
    assert [type(task.exception()) for task in done] == [Busy] * 8
    upstream.limiter.release()
    await asyncio.gather(*held)
    assert upstream.facts.state is UpstreamState.HEALTHY
    assert upstream.errors == 0


async def test_a_lost_connection_is_opened_again_before_anybody_is_told_that_it_is_down(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_FIRST", 0.2)
    upstream = stdio()
    states: list[UpstreamState] = []
    monitor = watch(upstream, on_change=lambda: states.append(upstream.facts.state))
    await monitor.wait_first_attempts(15)
    await asyncio.sleep(0.3)
    first = upstream.connections.main
    await first.close()  # type: ignore[union-attr]
    await until(lambda: upstream.connections.main is not first)
    assert set(states) == {UpstreamState.HEALTHY}


async def test_a_server_that_was_only_out_of_reach_comes_back_with_two_good_checks(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "DOUBT_INTERVAL", 0.05)
    reset, refused = stdio("reset"), stdio("refused")
    monitor = watch(reset, refused)
    await monitor.wait_first_attempts(15)
    for sent in (True, False, False, False, False):  # killed with a call in flight, then nobody is there
        reset.signals.failed("reset", sent=True)
        refused.signals.failed("reset or refused", sent=sent)
    assert {reset.facts.state, refused.facts.state} == {UpstreamState.EJECTED}
    await until(lambda: refused.facts.state is UpstreamState.HEALTHY, 5)
    assert reset.facts.state is UpstreamState.EJECTED


# -- alive is who answers, or works -------------------------------------------------------------------------------

ODD = str(SERVERS / "odd.py")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three checks take less than a second."""
    monkeypatch.setattr(watch_module, "DOUBT_INTERVAL", 0.05)
    monkeypatch.setattr("gateway_core.upstream.liveness.PING_TIMEOUT", 0.15)
    monkeypatch.setattr(watch_module, "BACKOFF_FIRST", 0.1)
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_FIRST", 0.1)


def odd(journal: Journal, *options: str, **settings: Any) -> Upstream:
    settings = {"health_check_interval": 0.1, **settings}
    return stdio("odd", ODD, "--log", str(journal.file), *options, **settings)


async def blocked(upstream: Upstream, seconds: float, deadline: float) -> bool:
    """Call the tool that blocks its server. Returns whether an answer came before the deadline."""
    exchange = Exchange(Agent(Principal("a"), "legacy", "2025-11-25"), "tools/call")
    request = Request("tools/call", {"name": "block", "arguments": {"seconds": seconds}})
    calls = Deadlines()
    exchange.deadline = call = InlineCall(calls, coroutine=upstream.request(exchange, request))
    call.move(asyncio.get_running_loop().time() + deadline)
    call.begin()
    call.step()
    try:
        return (await call).error is None
    except asyncio.CancelledError:
        if not call.passed:
            raise
        return False
    finally:
        call.end()


async def test_a_server_that_a_call_blocks_is_left_alone_before_the_calls_deadline(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    assert await blocked(upstream, 2.5, 30)
    assert len(journal.times("started")) == 1


async def test_a_server_is_left_alone_until_the_deadline_of_a_call_that_its_agent_gave_up(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    connection = upstream.connections.main
    leaving = asyncio.create_task(blocked(upstream, 2.5, 30))
    await until(lambda: bool(journal.times("tools/call")))
    leaving.cancel()
    await asyncio.wait([leaving])
    pings = len(journal.times("ping"))
    await until(lambda: len(journal.times("ping")) > pings)
    assert upstream.connections.main is connection


async def test_a_call_that_proves_its_server_stuck_has_it_started_again(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    patient = asyncio.create_task(blocked(upstream, 600, 2.5))
    await asyncio.sleep(0.1)
    assert not await blocked(upstream, 600, 0.4)
    later = asyncio.create_task(blocked(upstream, 600, 30))
    assert not await patient
    assert len(journal.times("started")) == 1, "a call sent before the proof has its time"
    await until(lambda: len(journal.times("started")) == 2)
    await asyncio.gather(later, return_exceptions=True)


@pytest.mark.parametrize("ping", ["-32600", "-32603", "-32001", "null", "silent"])
async def test_any_answer_is_a_sign_of_life(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None, ping: str
) -> None:
    upstream = odd(journal, "--ping", ping)
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    await until(lambda: len(journal.times("tools/list" if ping == "silent" else "ping")) > 8)
    assert len(journal.times("started")) == 1
    assert upstream.facts.state is UpstreamState.HEALTHY
    assert not upstream.connections.sessions.connections()


async def test_calls_that_succeed_are_a_sign_of_life(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal, "--ping", "silent", "--lists", "silent")
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    for _ in range(40):
        assert await blocked(upstream, 0, 30)
        await asyncio.sleep(0.05)
    assert len(journal.times("started")) == 1


async def test_one_that_is_idle_and_silent_is_never_started_twice_without_backoff(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_RESET", 0.3)  # what three checks in vain take
    upstream = odd(journal, "--ping", "silent", "--bare")
    waits: list[float] = []

    def changed() -> None:
        if upstream.facts.state is UpstreamState.DOWN:
            waits.append(upstream.status.retry_in() or 0.0)

    watch(upstream, on_change=changed, rng=Longest())
    await until(lambda: len(waits) == 4, 30)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.05)


@pytest.mark.parametrize("status", [400, 401, 403, 405, 500, 501, 503])
async def test_over_http_a_ping_that_is_refused_with_a_status_costs_nothing(
    watch: Callable[..., HealthMonitor], fast: None, status: int
) -> None:
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        message = json.loads(await request.text() or "{}")
        method = message.get("method", request.method)
        seen.append(method)
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            },
            "tools/list": {"tools": []},
        }
        if method == "ping":
            return web.Response(status=status, text="no")
        if method not in results:
            return web.Response(status=202 if method == "notifications/initialized" else 405)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": results[method]})

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{server.addresses[0][1]}/mcp"
    settings: dict[str, Any] = {"name": "h", "transport": "http", "url": url, "health_check_interval": 0.1}
    upstream = Upstream(UpstreamConfig(**settings), ProxyConfig(), 0)
    watch(upstream)
    await until(lambda: seen.count("ping") + seen.count("tools/list") > 8)
    assert seen.count("initialize") == 1
    assert upstream.facts.state is UpstreamState.HEALTHY
    await server.cleanup()


async def test_the_status_warns_of_renewed_files_that_cannot_be_used_until_they_can(
    watch: Callable[..., HealthMonitor], fast: None, tmp_path: Path
) -> None:
    """Checks look at the files: the connections stay open, so no new one would read them."""
    authority = trustme.CA()
    accepting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    accepting.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(accepting)
    authority.issue_cert("localhost").configure_cert(accepting)
    ca, cert, key = (tmp_path / f"{name}.pem" for name in ("ca", "cert", "key"))

    def write(*paths: Path) -> None:
        mine = authority.issue_cert("gateway.example")
        content = {ca: authority.cert_pem, cert: mine.cert_chain_pems[0], key: mine.private_key_pem}
        for path in paths:
            content[path].write_to_path(str(path))

    write(ca, cert, key)

    async def answer(request: web.BaseRequest) -> web.Response:
        message = json.loads(await request.text() or "{}")
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            },
            "tools/list": {"tools": []},
            "ping": {},
        }
        if message.get("method") not in results:
            return web.Response(status=202 if message.get("method") == "notifications/initialized" else 405)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]})

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0, ssl_context=accepting).start()
    settings: dict[str, Any] = {
        "name": "h",
        "transport": "http",
        "url": f"https://localhost:{server.addresses[0][1]}/mcp",
        "tls": {"ca": str(ca), "cert": str(cert), "key": str(key)},
        "health_check_interval": 0.1,
    }
    upstream = Upstream(UpstreamConfig(**settings), ProxyConfig(), 0)
    watch(upstream)
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)

    async def warned(text: str) -> None:
        kept = f"upstream h: tls.{text}; the content that was read before stays in use"
        await until(lambda: report.upstream(upstream)["warnings"] == ([kept] if text else []))

    await warned("")
    write(cert)  # its key is not replaced yet
    await warned("key: the key does not belong to the certificate")
    key.write_text("no key")
    await warned("key: holds no private key in PEM")
    write(cert, key)
    await warned("")
    ca.write_text("no certificate")
    await warned("ca: holds no certificate in PEM")
    key.unlink()
    await warned("key: cannot be read: No such file or directory")
    assert upstream.facts.state is UpstreamState.HEALTHY
    write(ca, cert, key)
    await warned("")
    await server.cleanup()


# -- what does not heal by itself -----------------------------------------------------------------------------------


async def test_a_server_that_dies_soon_after_each_start_is_started_ever_more_rarely_and_shown_so(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal, "--die", "0.3", health_check_interval=30)
    shown: list[str] = []

    def changed() -> None:
        if upstream.facts.state is UpstreamState.DOWN:
            shown.append(f"{upstream.status.last_error}: {upstream.status.last_words}")

    watch(upstream, on_change=changed, rng=Longest())
    await until(lambda: len(journal.times("started")) == 6, 40)
    pauses = [later - earlier for earlier, later in itertools.pairwise(journal.times("started"))]
    assert pauses[-1] > pauses[-2] > pauses[-3] > pauses[1]
    assert shown[-1].startswith("exited with status 3, 4 times in a row: at ")
    assert shown[-1].endswith("cannot open the database")


async def test_answers_to_the_gateways_own_checks_do_not_hide_that_a_server_dies_again_and_again(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal, "--die", "0.4", health_check_interval=0.1)
    shown: list[str] = []
    watch(upstream, on_change=lambda: shown.append(upstream.status.last_error or ""), rng=Longest())
    await until(lambda: "exited with status 3, 3 times in a row" in shown, 40)
    assert journal.times("ping")


async def test_a_server_that_served_a_call_before_it_died_may_pass(
    watch: Callable[..., HealthMonitor], journal: Journal, fast: None
) -> None:
    upstream = odd(journal, "--die", "0.6", health_check_interval=30)
    shown: list[str] = []
    watch(upstream, on_change=lambda: shown.append(upstream.status.last_error or ""), rng=Longest())
    for starts in range(1, 4):
        await until(lambda starts=starts: len(journal.times("tools/list")) == starts and upstream.reachable, 40)  # type: ignore[misc]
        assert await blocked(upstream, 0, 30)
        await until(lambda starts=starts: len(journal.times("started")) == starts + 1, 40)  # type: ignore[misc]
    assert "exited with status 3" in shown
    assert not any("in a row" in line for line in shown)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"error": {"code": -32603, "message": "request 17: no licence"}}, "request 17: no licence, 3 times in a row"),
        ({"result": {"protocolVersion": "1999-01-01", "capabilities": {}}}, "does not speak"),
    ],
)
async def test_a_handshake_that_is_refused_in_the_same_way_is_tried_ever_more_rarely(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch, fast: None, answer: Any, text: str
) -> None:
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_MAX", 0.0)

    async def refuse(request: web.BaseRequest) -> web.Response:
        message = json.loads(await request.text())
        if message["method"] == "server/discover":
            return web.Response(status=405)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], **answer})

    server = web.ServerRunner(web.Server(refuse))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{server.addresses[0][1]}/mcp"
    upstream = Upstream(UpstreamConfig(name="h", transport="http", url=url), ProxyConfig(), 0)
    waits: list[float] = []
    watch(upstream, on_change=lambda: waits.append(upstream.status.retry_in() or 0.0), rng=Longest())
    await until(lambda: len(waits) == 3, 40)
    assert waits == pytest.approx([0.1, 0.2, 0.4], abs=0.08), "only the first may pass: its wait is the least"
    assert text in (upstream.status.last_error or "")
    await server.cleanup()


async def test_a_server_that_names_the_time_of_its_return_is_not_asked_before(
    watch: Callable[..., HealthMonitor], fast: None
) -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "90"})

    server = web.ServerRunner(web.Server(refuse))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{server.addresses[0][1]}/mcp"
    upstream = Upstream(UpstreamConfig(name="h", transport="http", url=url), ProxyConfig(), 0)
    waits: list[float] = []
    watch(upstream, on_change=lambda: waits.append(upstream.status.retry_in() or 0.0))
    await until(lambda: bool(waits))
    assert waits == pytest.approx([90], abs=0.5)
    await server.cleanup()


async def test_what_dies_in_the_handshake_is_started_once_per_attempt(
    watch: Callable[..., HealthMonitor], tmp_path: Path, fast: None
) -> None:
    journal = Journal(tmp_path / "journal")
    upstream = stdio("bad", "-c", f"echo 0 started >> {journal.file}; exit 1", command="sh")
    downs: list[int] = []

    def changed() -> None:
        if upstream.facts.state is UpstreamState.DOWN:
            downs.append(len(journal.lines))

    watch(upstream, on_change=changed)
    await until(lambda: len(downs) == 4)
    assert [later - earlier for earlier, later in itertools.pairwise(downs)] == [1, 1, 1]
    assert downs[0] == 2, "the first time, the era's probe may have been what it died of"


async def test_a_command_that_a_shell_does_not_find_is_started_once(
    watch: Callable[..., HealthMonitor], tmp_path: Path, fast: None
) -> None:
    journal = Journal(tmp_path / "journal")
    upstream = stdio("bad", "-c", f"echo 0 started >> {journal.file}; no-such-command-here", command="sh")
    monitor = watch(upstream)
    await monitor.wait_first_attempts(15)
    assert len(journal.lines) == 1
    assert "127" in (upstream.status.last_error or "")


@pytest.mark.parametrize(
    ("problem", "lasting"),
    [
        (RefusedUpstream("HTTP 401", status=401), True),
        (RefusedUpstream("HTTP 403", status=403), True),
        (RefusedUpstream("HTTP 429", status=429), False),
        (Permanent("no such command"), True),
        (NotSent("connection refused"), False),
        (RpcError(-32022, "no version in common"), True),
        (RpcError(-32603, "starting"), False),
    ],
)
def test_what_only_a_person_can_remove_is_told_from_what_may_pass(problem: Any, lasting: bool) -> None:
    assert watch_module.is_lasting(problem) is lasting


async def test_a_refusal_is_shown_as_what_it_is_and_tried_more_rarely(
    watch: Callable[..., HealthMonitor], monkeypatch: pytest.MonkeyPatch, fast: None
) -> None:
    monkeypatch.setattr("gateway_core.upstream.ejection.BACKOFF_MAX", 0.0)
    upstream = stdio("missing", command="no-such-command-here")
    waits: list[float] = []
    watch(upstream, on_change=lambda: waits.append(upstream.status.retry_in() or 0.0))
    await until(lambda: len(waits) == 5)
    assert waits[4] > waits[3] > waits[2]
    assert "command not found in PATH" in (upstream.status.last_error or "")


async def test_a_command_that_does_not_exist_is_tried_at_least_every_ten_minutes() -> None:
    clock, waits = HandClock(), []
    upstream = stdio("missing", "x", command="no-such-command-here", clock=clock)
    async with watching(upstream, on_change=lambda: waits.append(upstream.status.retry_in() or 0.0), rng=Longest()):
        for tried in range(1, 14):
            await until(lambda tried=tried: len(waits) == tried)  # type: ignore[misc]
            await until(lambda: bool(upstream.status.retry_in()))
            clock.turn(waits[-1])
    assert [round(wait) for wait in waits] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600]


async def test_a_process_that_lived_for_long_is_started_again_at_once_and_one_that_did_not_waits(
    journal: Journal, fast: None
) -> None:
    clock, waits = HandClock(), []
    upstream = stdio("odd", ODD, "--log", str(journal.file), clock=clock)

    def changed() -> None:
        if upstream.facts.state is UpstreamState.DOWN:
            waits.append(round(upstream.status.retry_in() or 0.0, 1))

    async def lose(lived: float) -> None:
        """Lose the connection after that many seconds, and wait for the next."""
        await until(lambda: upstream.reachable)
        main = upstream.connections.main
        assert main is not None
        clock.turn(lived)
        await main.close()
        await until(lambda: upstream.connections.main not in {None, main})

    async with watching(upstream, on_change=changed, rng=Longest()):
        for lived, expected in ((59, []), (59, [0.2]), (59, [0.2, 0.4]), (61, [0.2, 0.4]), (59, [0.2, 0.4, 0.2])):
            await lose(lived)
            assert waits == pytest.approx(expected, abs=0.05)


async def test_a_server_that_dies_again_and_again_is_called_unsteady_while_it_is_up(
    journal: Journal, fast: None
) -> None:
    upstream = stdio("odd", ODD, "--log", str(journal.file), "--die", "0.4")
    async with watching(upstream):
        await until(lambda: upstream.facts.state is UpstreamState.HEALTHY and bool(upstream.status.unsteady))
        (warning,) = report.upstream(upstream)["warnings"]
        assert "odd was lost 3 times without 60 s of health between: exited with status 3: at " in warning
        assert "cannot open the database" in warning


# -- starting -------------------------------------------------------------------------------------------------------


async def test_a_server_has_as_long_to_start_as_its_start_timeout_says(journal: Journal) -> None:
    late = odd(journal, "--after", "1.0", start_timeout=0.3)
    with pytest.raises(NotSent, match=r"within 0.3 s"):
        await late.connect()
    await late.close()
    in_time = odd(journal, "--after", "1.0", start_timeout=20)
    await in_time.connect()
    assert in_time.fetched is not None
    await in_time.close()


async def test_a_list_has_as_long_as_the_start_timeout_says() -> None:
    slow = (str(SERVERS / "dying.py"), "--slow", "tools/list=1.0", "--capabilities", "tools")
    late = stdio("late", *slow, start_timeout=0.6)
    with pytest.raises(DeliveryError, match="no answer to tools/list in time"):
        await late.connect()
    await late.close()
    in_time = stdio("in-time", *slow, start_timeout=20)
    await in_time.connect()
    assert in_time.fetched is not None
    assert in_time.fetched.of("tool")
    await in_time.close()


@pytest.mark.parametrize(("start_timeout", "opens"), [(0.4, False), (20, True)])
async def test_the_session_of_an_agent_has_as_long_to_start_as_the_first_connection(
    start_timeout: float, opens: bool
) -> None:
    greeted = 0

    async def answer(request: web.BaseRequest) -> web.Response:
        nonlocal greeted
        message = json.loads(await request.text() or "{}")
        if message.get("method") == "initialize":
            greeted += 1
            await asyncio.sleep(1.0 if greeted > 1 else 0.0)
            result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
            headers = {"Mcp-Session-Id": str(greeted)}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result}, headers=headers)
        if message.get("method") == "tools/call":
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}})
        return web.Response(status=202 if "id" not in message and message else 405)

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{server.addresses[0][1]}/mcp"
    config = UpstreamConfig(name="h", transport="http", url=url, start_timeout=start_timeout)
    upstream = Upstream(config, ProxyConfig(), 0)
    await upstream.connect()
    agent = Agent(Principal("a"), "legacy", "2025-11-25", session_id="one")
    calling = upstream.request(Exchange(agent, "tools/call"), Request("tools/call", {"name": "x"}))
    if opens:
        assert (await calling).error is None
    else:
        with pytest.raises(NotSent, match=r"no session: no answer to the handshake within 0\.4 s"):
            await calling
    await upstream.close()
    await server.cleanup()


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
    await until(lambda: upstream.status.last_error is not None)
    logger.remove(handler)
    assert "no such token: [REDACTED]" in (upstream.status.last_error or "")
    assert any("no such token: [REDACTED]" in line for line in seen)
    assert not any("hush-token" in line for line in seen)


# -- logins ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def tracker() -> AsyncIterator[Tracker]:
    """A server that needs a login."""
    found = Tracker()
    runner = web.ServerRunner(web.Server(found.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def logged_in(logins: Logins, tracker: Tracker, token: str, since: float) -> None:
    """Keep a login without a refresh token."""
    url, client = f"{tracker.origin}/mcp", Client("c")
    tracker.valid = {token}
    login = Login(since=since, url=url, issuer=tracker.origin, client=client, access_token=token)
    await logins.change(GATEWAY, "t", lambda _: login)


async def test_an_upstream_without_a_login_waits_for_one_and_is_not_tried_again(
    watch: Callable[..., HealthMonitor], tracker: Tracker
) -> None:
    logins, states = Logins(), list[str]()
    settings = {"name": "t", "transport": "http", "url": f"{tracker.origin}/mcp", "health_check_interval": 0.1}
    config = UpstreamConfig(**settings, auth=AuthConfig(grant="authorization_code"))
    upstream = Upstream(config, ProxyConfig(), 0, logins=logins)
    watch(upstream, on_change=lambda: states.append(upstream.facts.state))
    await until(lambda: upstream.facts.state is UpstreamState.NEEDS_LOGIN)
    assert upstream.status.last_error is not None
    assert upstream.status.last_error.endswith("the operator logs in with: rad mcp proxy login t")
    asked = len(tracker.calls)
    await asyncio.sleep(1.5)
    assert len(tracker.calls) == asked

    await logged_in(logins, tracker, "first", 1.0)
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
    assert upstream.status.last_error is None
    tracker.valid = set()
    await until(lambda: upstream.facts.state is UpstreamState.NEEDS_LOGIN)
    await logged_in(logins, tracker, "second", 2.0)
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
    lists = [call for call in tracker.calls if call == ("tools/list", "Bearer second")]
    await logged_in(logins, tracker, "third", 3.0)
    await until(lambda: ("tools/list", "Bearer third") in tracker.calls)
    assert upstream.facts.state is UpstreamState.HEALTHY, "a new login of a healthy upstream loses no connection"
    assert lists
    await logins.change(GATEWAY, "t", lambda _: None)
    await until(lambda: upstream.facts.state is UpstreamState.NEEDS_LOGIN)
    assert UpstreamState.HEALTHY in states


async def test_a_login_ends_the_backoff_of_an_upstream_that_is_down(
    watch: Callable[..., HealthMonitor], tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused login is retried less and less often, but a new one at once."""
    monkeypatch.setattr("gateway_core.upstream.ejection.Backoff.next", lambda *_, **__: 300.0)
    logins = Logins()
    await logged_in(logins, tracker, "first", 1.0)
    tracker.forbids = True
    settings = {"name": "t", "transport": "http", "url": f"{tracker.origin}/mcp"}
    config = UpstreamConfig(**settings, auth=AuthConfig(grant="authorization_code"))
    upstream = Upstream(config, ProxyConfig(), 0, logins=logins)
    watch(upstream)
    await until(lambda: upstream.facts.state is UpstreamState.DOWN)
    await asyncio.sleep(0.5)
    tracker.forbids = False
    await logged_in(logins, tracker, "second", 2.0)
    await until(lambda: upstream.facts.state is UpstreamState.HEALTHY)
