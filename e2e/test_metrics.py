"""The figures of a running gateway, read by Prometheus' own tools, against what the servers saw.

promtool comes from the operating system or its packages (`make e2e` fetches it without installing it). Where neither
has it, the tests that need it are skipped; the plugin's own tests read the figures with the client library.
"""

from __future__ import annotations

import asyncio
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
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

from tests.login_kit import Served, Tracker

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples" / "prometheus"
FETCHED = HERE / "promtool" / "usr" / "bin" / "promtool"
PROMTOOL = str(FETCHED) if FETCHED.exists() else shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine")
TOKEN = "scrape-token"
METRIC = re.compile(r"\b(?:radium|process)_[a-z_]+")


def promtool(*arguments: str, given: str = "") -> str:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False, cwd=HERE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def scrape(gateway: Any) -> str:
    """The page of figures, as Prometheus gets it."""
    address = gateway.rad("status")["control"]
    request = urllib.request.Request(f"{address}/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        return str(response.read().decode())


def value(page: str, name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    total = 0.0
    for line in page.splitlines():
        found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
        if found is None or found[1] != name:
            continue
        given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
        if labels.items() <= given.items():
            total += float(found[3])
    return total


def renewals(page: str, upstream: str) -> dict[str, float]:
    """Requests for the gateway's own tokens for an upstream, by outcome."""
    outcomes = ("renewed", "failed", "login_needed")
    name = "radium_upstream_token_renewals_total"
    return {it: value(page, name, upstream=upstream, owner="gateway", outcome=it) for it in outcomes}


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    served = Served()
    yield served.tracker
    served.close()


service = tracker
"""Another one."""


@pytest.fixture
def gateway(launcher: Any) -> Any:
    upstream = {"name": "demo", "transport": "stdio", "command": sys.executable}
    return launcher.gateway(
        {
            "upstreams": [{**upstream, "args": ["-m", "gateway_core.demo.stdio_server"]}],
            "plugins": [
                {"name": "routing_priority"},
                {"name": "security_policy", "rules": [{"tools": ["add"], "then": "allow"}]},
                {"name": "observe_metrics", "token": TOKEN, "hook_times": True},
            ],
        },
        upstreams=1,
    )


async def calls(url: str, mode: str) -> None:
    """Three sums, and one call that the policy refuses."""
    async with Client(streamable_http_client(url), mode=mode) as client:
        for number in range(3):
            result = await client.call_tool("add", {"a": number, "b": 1})
            assert not result.is_error
        with pytest.raises(MCPError):
            await client.call_tool("echo", {"text": "x"})


def test_the_figures_agree_with_what_happened(gateway: Any) -> None:
    for mode in ("legacy", "2026-07-28"):
        asyncio.run(calls(gateway.url, mode))
    page = scrape(gateway)
    assert value(page, "radium_calls_total", method="tools/call", tool="add", outcome="ok") == 6
    assert value(page, "radium_calls_total", method="tools/call", outcome="refused") == 2
    assert value(page, "radium_call_duration_seconds_count", tool="add") == 6
    assert value(page, "radium_plugin_decisions_total", plugin="security_policy", decided="refuse") == 2
    assert value(page, "radium_upstream_requests_total", upstream="demo") == gateway.upstream("demo")["calls"] == 6
    assert value(page, "radium_upstream_state", upstream="demo", state="healthy") == 1
    assert value(page, "radium_upstream_connects_total", upstream="demo") == 1
    assert value(page, "radium_hook_runs_total", plugin="security_policy", hook="before_call") >= 8
    assert value(page, "radium_hook_seconds_total", plugin="security_policy", hook="before_call") > 0


async def test_what_waits_breaks_and_comes_back_is_shown(
    launcher: Any, tools: Any, wait_for: Callable[..., None]
) -> None:
    """A server that serves one call at a time and asks questions, one that is ejected, and one that is killed."""
    everything = {"command": str(tools.node), "args": [tools.server("everything")]}
    light = str(Path(__file__).parents[1] / "tests" / "generations" / "server.py")
    servers = [
        {"name": "busy", **everything, "isolation": "shared", "max_in_flight": 1},
        {"name": "slow", "command": sys.executable, "args": [light, "slow"], "timeout": 0.3},
        {"name": "mortal", "command": sys.executable, "args": [light, "mortal"]},
    ]
    gateway = launcher.gateway(
        {
            "upstreams": [{"transport": "stdio", **server} for server in servers],
            "plugins": [{"name": "routing_priority"}, {"name": "observe_metrics", "token": TOKEN}],
        },
        upstreams=3,
    )

    async def page() -> str:
        return await asyncio.to_thread(scrape, gateway)

    async def shows(number: float, name: str, **labels: str) -> str:
        """Wait for a page with this value; returns it."""
        async with asyncio.timeout(100):
            while value(found := await page(), name, **labels) != number:
                await asyncio.sleep(0.05)
        return found

    answered = asyncio.Event()

    async def elicit(context: Any, params: Any) -> ElicitResult:
        await answered.wait()
        return ElicitResult(action="decline")

    async with (
        Client(streamable_http_client(gateway.url), mode="legacy", elicitation_callback=elicit) as old,
        Client(streamable_http_client(gateway.url), mode="2026-07-28", elicitation_callback=elicit) as new,
    ):
        await shows(1, "radium_sessions")
        long = {"duration": 100, "steps": 1}
        waiting = [asyncio.create_task(new.call_tool("trigger-long-running-operation", long)) for _ in range(3)]
        found = await shows(2, "radium_upstream_calls_queued", upstream="busy")
        assert value(found, "radium_upstream_calls_in_flight", upstream="busy") == 3
        assert value(found, "radium_calls_in_flight") == 3
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await shows(0, "radium_upstream_calls_in_flight", upstream="busy")
        await shows(0, "radium_upstream_calls_queued", upstream="busy")

        asking = asyncio.create_task(new.call_tool("trigger-elicitation-request", {}))
        await shows(1, "radium_calls_parked")
        answered.set()
        await asking
        await shows(0, "radium_calls_parked")
        assert value(await page(), "radium_call_waited_seconds_total") == 0, "no request ran meanwhile"
        await old.call_tool("trigger-elicitation-request", {})
        assert value(await page(), "radium_call_waited_seconds_total") > 0

        for _ in range(5):
            assert (await old.call_tool("slow_wait", {"seconds": 30})).is_error
        found = await shows(1, "radium_upstream_ejections_total", upstream="slow")
        assert value(found, "radium_upstream_state", upstream="slow", state="ejected") == 1
        assert value(found, "radium_calls_total", upstream="slow", tool="slow_wait", outcome="unknown") == 5
        assert value(found, "radium_upstream_errors_total", upstream="slow") == 5

        pid: Any = (await old.call_tool("mortal_pid", {})).content[0]
        os.kill(int(pid.text), signal.SIGKILL)
        await shows(2, "radium_upstream_connects_total", upstream="mortal")
    found = await page()
    for name in ("process_open_fds", "process_max_fds", "process_resident_memory_bytes", "radium_memory_bytes"):
        assert value(found, name) > 0
    await shows(0, "radium_sessions")


def test_the_page_needs_the_token(gateway: Any) -> None:
    address = gateway.rad("status")["control"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{address}/metrics", timeout=60)


@needs_promtool
def test_promtool_finds_no_fault_in_the_page(gateway: Any) -> None:
    asyncio.run(calls(gateway.url, "2026-07-28"))
    assert promtool("check", "metrics", given=scrape(gateway)) == ""


def log_in(launcher: Any, config: Path) -> None:
    """Log in at the upstream "tracker" as its operator."""
    command = [str(launcher.rad), "mcp", "proxy", "login", "tracker", "--no-browser", "--config", str(config)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        urllib.request.urlopen(child.stdout.readline().strip(), timeout=30).close()
        child.communicate(timeout=60)


def test_the_end_of_a_login_without_a_refresh_token_shows_without_a_request(
    launcher: Any, wait_for: Callable[..., None], tracker: Tracker, service: Tracker
) -> None:
    tracker.life, tracker.renewable = 5, False
    port = launcher.free_port()
    credentials = {"issuer": service.origin, "client_id": "gateway", "client_secret": "hidden-client-secret"}
    ways = {
        "tracker": (tracker, {"grant": "authorization_code"}),
        "service": (service, {"grant": "client_credentials", **credentials}),
    }
    upstreams = [
        {"name": name, "transport": "http", "url": f"{of.origin}/mcp", "health_check_interval": 600, "auth": auth}
        for name, (of, auth) in ways.items()
    ]
    plugins = [{"name": "conflict_autoprefix"}, {"name": "observe_metrics", "token": TOKEN}]
    config = launcher.write({"port": port, "upstreams": upstreams, "plugins": plugins})
    gateway = launcher.start(config, port)
    wait_for(lambda: gateway.upstream("tracker")["state"] == "needs_login", "the login is due")
    log_in(launcher, config)
    wait_for(lambda: gateway.upstream("tracker")["state"] == "healthy", "the login is used")
    asked = len(tracker.calls)
    wait_for(
        lambda: value(scrape(gateway), "radium_upstream_login_due", upstream="tracker") == 1, "the login has ended"
    )
    page = scrape(gateway)
    assert value(page, "radium_upstream_token_expiry_timestamp_seconds", upstream="tracker") <= time.time()
    assert 'radium_upstream_token_renewable{upstream="tracker"} 0.0' in page
    assert len(tracker.calls) == asked


def test_figures_of_tokens_agree_with_the_token_endpoints(
    launcher: Any, wait_for: Callable[..., None], tracker: Tracker, service: Tracker
) -> None:
    """The operator logs in at one upstream, the gateway has client credentials for the other."""

    def protected(name: str, of: Tracker, **auth: str) -> dict[str, Any]:
        return {
            "name": name,
            "transport": "http",
            "url": f"{of.origin}/mcp",
            "health_check_interval": 0.5,
            "auth": auth,
        }

    tracker.life = 4
    credentials = {"issuer": service.origin, "client_id": "gateway", "client_secret": "hidden-client-secret"}
    port = launcher.free_port()
    config = launcher.write(
        {
            "port": port,
            "upstreams": [
                protected("tracker", tracker, grant="authorization_code"),
                protected("service", service, grant="client_credentials", **credentials),
            ],
            "plugins": [{"name": "conflict_autoprefix"}, {"name": "observe_metrics", "token": TOKEN}],
        }
    )
    gateway = launcher.start(config, port)
    wait_for(lambda: gateway.upstream("tracker")["state"] == "needs_login", "the login is due")
    page = scrape(gateway)
    assert value(page, "radium_upstream_login_due", upstream="tracker") == 1
    assert 'radium_upstream_login_due{upstream="service"}' not in page, "it needs no login"

    log_in(launcher, config)
    wait_for(lambda: gateway.upstream("tracker")["state"] == "healthy", "the login is used")
    page = scrape(gateway)
    assert value(page, "radium_upstream_login_due", upstream="tracker") == 0
    for name, of in (("tracker", tracker), ("service", service)):
        ends = value(page, "radium_upstream_token_expiry_timestamp_seconds", upstream=name)
        assert ends == pytest.approx(time.time() + of.life, abs=120)
        assert value(page, "radium_upstream_token_renewable", upstream=name) == 1
    assert renewals(page, "service") == {"renewed": service.issued, "failed": 0, "login_needed": 0}

    wait_for(lambda: tracker.issued >= 3, "the token of the login is renewed")
    tracker.refresh.clear()
    service.failing = True
    service.valid.clear()
    wait_for(lambda: len(service.refused) >= 2, "renewals fail")
    wait_for(lambda: gateway.upstream("tracker")["state"] == "needs_login", "the login is due again")
    service.failing = False
    wait_for(lambda: gateway.upstream("service")["state"] == "healthy", "the service is back")
    page = scrape(gateway)
    assert value(page, "radium_upstream_login_due", upstream="tracker") == 1
    assert renewals(page, "tracker") == {"renewed": tracker.issued - 1, "failed": 0, "login_needed": 1}
    assert tracker.refused == ["refresh_token"]
    assert renewals(page, "service") == {"renewed": service.issued, "failed": len(service.refused), "login_needed": 0}
    assert 'radium_upstream_token_expiry_timestamp_seconds{upstream="tracker"}' not in page, "it has none any more"
    assert "hidden" not in page
    if PROMTOOL is not None:
        assert promtool("check", "metrics", given=page) == ""


def test_lags_of_the_event_loop_are_measured(gateway: Any, wait_for: Callable[..., None]) -> None:
    wait_for(lambda: value(scrape(gateway), "radium_loop_lag_seconds_count") >= 20, "about a second is measured")
    page = scrape(gateway)
    assert value(page, "radium_loop_lag_seconds_bucket", le="+Inf") == value(page, "radium_loop_lag_seconds_count")
    assert value(page, "radium_loop_lag_seconds_sum") > 0


@needs_promtool
def test_the_example_of_alerts_fires_when_it_should() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(EXAMPLES / "alerts.yml"))
    assert "SUCCESS" in promtool("test", "rules", "metrics/alerts_test.yml")


@needs_promtool
def test_the_example_of_a_configuration_is_accepted(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    text = (EXAMPLES / "prometheus.yml").read_text().replace("/etc/radium/metrics-token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(EXAMPLES / "alerts.yml", tmp_path)
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_dashboard_and_alerts_use_figures_that_exist(gateway: Any) -> None:
    asyncio.run(calls(gateway.url, "2026-07-28"))
    page = scrape(gateway)
    known = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}
    known |= {f"{name}{end}" for name in known for end in ("_bucket", "_sum", "_count")}
    board = json.loads((EXAMPLES / "dashboard.json").read_text())
    used = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    used += re.sub(r"(?m)^ *(?:#|summary|description).*$", "", (EXAMPLES / "alerts.yml").read_text())
    assert set(METRIC.findall(used)) <= known
    assert len(board["panels"]) > 10
