"""A gateway with real servers and real traffic, and a real browser that opens its dashboard.

Playwright drives the Chromium of the operating system; without one these tests are skipped. The browser cannot resolve
any name, so a page that needed the network would fail.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

HERE = Path(__file__).parent
E2E = HERE.parent
sys.path += [str(path) for path in (E2E / ".venv").glob("lib/python3*/site-packages")]  # Playwright is installed there

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect, sync_playwright  # noqa: E402

expect.set_options(timeout=20_000)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RAD = Path(sys.executable).parent / "rad"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
AGENT = "claude-code"
CALLS: list[tuple[str, dict[str, Any], int]] = [
    ("weather", {"city": "oslo"}, 9),
    ("search_notes", {"query": "backup"}, 4),
    ("word_count", {"text": "one two three"}, 8),
    ("add", {"a": 1, "b": 2}, 8),
    ("now", {}, 5),
    ("get-sum", {"a": 1, "b": 2}, 2),
    ("wait", {"seconds": 0.05}, 3),
    ("weather", {"city": "atlantis"}, 1),
]
"""Tool, arguments and share of the calls. The last one is an error of the tool."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(120))
            item.add_marker(pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"))


def request_of(url: str, name: str, arguments: dict[str, Any], client: str = AGENT) -> urllib.request.Request:
    """The request of a modern agent for one call."""
    meta = {**META, "io.modelcontextprotocol/clientInfo": {"name": client, "version": "2.1"}}
    params = {"name": name, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }
    return urllib.request.Request(url, body, headers)


def call(url: str, name: str, arguments: dict[str, Any], client: str = AGENT) -> dict[str, Any]:
    """The response to one call of a modern agent."""
    try:
        with urllib.request.urlopen(request_of(url, name, arguments, client), timeout=60) as response:
            text = response.read().decode()
    except urllib.error.HTTPError as error:
        text = error.read().decode()
    found: dict[str, Any] = json.loads(text[text.index("{") :] if text.startswith(("event:", "data:", ":")) else text)
    return found


@dataclass
class Traffic:
    """Calls of an agent, about `rate` a second, until `stop`; the first ones are of each kind."""

    url: str
    rate: float = 12
    made: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for name, arguments, _ in CALLS:
            call(self.url, name, arguments)
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._ended.wait(chance.expovariate(self.rate / 3)):
            name, arguments, _ = chance.choices(CALLS, [weight for *_, weight in CALLS])[0]
            if name == "wait":
                arguments = {"seconds": chance.choice([0.02, 0.1, 0.3])}
            try:
                call(self.url, name, arguments)
            except (OSError, ValueError):
                continue  # the gateway ends
            self.made += 1

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def demo(kind: str) -> dict[str, Any]:
    """The command of a demonstration server over stdio."""
    return {"transport": "stdio", "command": sys.executable, "args": ["-m", f"gateway_core.demo.{kind}"]}


@pytest.fixture(scope="session")
def gateway(session_launcher: Any, tools: Any) -> Any:
    """Seven servers: healthy ones of several kinds, one that is down, one without a command, one disabled."""
    ports = [session_launcher.free_port() for _ in range(3)]
    for name, port in zip(("primary", "backup"), ports, strict=False):
        session_launcher.http_server(name, port)
    slow = {"transport": "stdio", "command": sys.executable, "args": [str(E2E / "servers" / "slow.py")]}
    everything = {"transport": "stdio", "command": str(tools.node), "args": [tools.server("everything")]}
    upstreams = [
        {"name": "weather", "transport": "http", "url": f"http://127.0.0.1:{ports[0]}/mcp", "priority": 1},
        {"name": "weather-backup", "transport": "http", "url": f"http://127.0.0.1:{ports[1]}/mcp", "priority": 2},
        {"name": "toolbox", **demo("stdio_server"), "priority": 5},
        {"name": "reports", **slow},
        {"name": "everything", **everything},
        {"name": "tracker", "transport": "http", "url": f"http://127.0.0.1:{ports[2]}/mcp"},
        {"name": "archive", "transport": "http", "url": f"http://127.0.0.1:{ports[2]}/mcp", "enabled": False},
    ]
    rules = [
        {"name": "no secrets", "tools": ["get-env"], "then": "deny", "reason": "the environment holds secrets"},
        {"then": "allow"},
    ]
    plugins = [
        {"name": "security_ratelimit", "rate_limit_per_minute": 6000},
        {"name": "security_policy", "rules": rules},
        {"name": "observe_metrics", "hook_times": True},
        {"name": "routing_priority"},
        {"name": "conflict_autoprefix"},
    ]
    port = session_launcher.free_port()
    config = session_launcher.write(
        {"port": port, "timeout": 30, "upstreams": upstreams, "plugins": plugins}, name="dashboard"
    )
    found = session_launcher.start(config, port, name="dashboard")
    control_of(found)
    deadline = time.monotonic() + 60
    while sum(one["state"] == "healthy" for one in found.rad("status")["upstreams"]) < 5:
        assert time.monotonic() < deadline, found.rad("status")["upstreams"]
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def traffic(gateway: Any) -> Iterator[Traffic]:
    """Calls that go on during all tests of a module."""
    found = Traffic(gateway.url)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with the module: while it is there, its event loop keeps other tests from running one."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield found
        found.close()


def control_of(gateway: Any) -> str:
    """The address of the control plane, once it answers. On a busy machine agents may be served before."""
    deadline = time.monotonic() + 60
    while (done := gateway.run("status", "--json")).returncode != 0:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)
    found: str = json.loads(done.stdout)["control"]
    return found


def enter(gateway: Any, *options: str) -> str:
    """An address at which a browser enters, once."""
    command = [str(RAD), "mcp", "proxy", "ui", "--print", *options, "--config", str(gateway.config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


@dataclass
class Visit:
    """One browser at the dashboard. `complaints`: what its console said, and requests to other places."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of complaints that belong to the test."""

    def go(self, place: str) -> None:
        """Open a page, and wait until it has replaced the one before."""
        self.page.goto(f"{self.base}/ui/#/{place}")
        current = self.page.locator("#navigation a[aria-current=page]")
        expect(current).to_have_attribute("href", "#/" + re.split("[/?]", place, maxsplit=1)[0])
        self.page.get_by_role("main").get_by_role("heading", level=1).wait_for()

    def ready(self) -> None:
        """Wait until nothing on the page is loading any more."""
        expect(self.page.locator(".state.loading")).to_have_count(0)

    def resize(self, width: int, height: int) -> None:
        """Give the page another size, and wait until its layout has it."""
        self.page.set_viewport_size({"width": width, "height": height})
        deadline = time.monotonic() + 20
        while (found := self.page.evaluate("innerWidth")) != width:
            assert time.monotonic() < deadline, found
            self.page.wait_for_timeout(50)

    def open_row(self, row: Locator, text: str) -> None:
        """Click the one row that the filter `text` leaves: rows of a live list may move under the pointer."""
        self.page.get_by_role("searchbox").fill(text)
        expect(self.page.locator("tr[data-at]")).to_have_count(1)
        row.click()

    def axe(self) -> list[str]:
        """What axe finds on the page once it is loaded: rule, and the elements."""
        self.ready()
        self.page.evaluate(AXE_AT_ONCE % AXE.read_text() if not self.page.evaluate("'axe' in window") else "0")
        found = self.page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
        )
        return [
            f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
            for one in found["violations"]
            for node in one["nodes"][:4]
        ]

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    def _asked(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.base).netloc:
            self.complaints.append(f"a request to {request.url}")

    def watch(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("request", self._asked)

    def unexpected(self) -> list[str]:
        return [one for one in self.complaints if not any(part in one for part in self.expected)]


AXE = E2E / "node_modules" / "axe-core" / "axe.min.js"
AXE_AT_ONCE = """(() => {
  const setTimeout = (run, ms) => (ms === 0 ? queueMicrotask(run) : window.setTimeout(run, ms));
  %s
})()"""
"""Between two rules axe lets the page go on. Without these breaks all rules see the same state of a live page."""


@pytest.fixture
def visit(browser: Browser, gateway: Any) -> Iterator[Callable[..., Visit]]:
    """`visit("overview", scheme="dark", right="read")`: a browser at a page. Nothing may be wrong on its console."""
    made: list[Visit] = []

    def run(
        place: str,
        *,
        scheme: Any = "light",
        right: str = "change",
        size: tuple[int, int] = (1440, 900),
        of: Any = gateway,
        expected: tuple[str, ...] = (),
        motion: Any = "reduce",
    ) -> Visit:
        context = browser.new_context(
            color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, reduced_motion=motion
        )
        context.set_default_timeout(20_000)
        page = context.new_page()
        base = control_of(of)
        found = Visit(page, base, expected=expected)
        found.watch()
        made.append(found)
        if right != "none":
            page.goto(enter(of, *(("--read-only",) if right == "read" else ())))
            page.wait_for_url(f"{base}/ui/**")
            found.go(place)
        else:
            page.goto(f"{base}/ui/#/{place}")
        return found

    yield run
    found = [one.unexpected() for one in made]
    for one in made:
        one.page.context.close()
    assert not any(found), found


@pytest.fixture
def make_call(gateway: Any) -> Callable[..., dict[str, Any]]:
    """`make_call("add", a=1, b=2)`: the response to one call of an agent; `client="x"`: of another one."""

    def run(name: str, /, client: str = AGENT, **arguments: Any) -> dict[str, Any]:
        return call(gateway.url, name, arguments, client)

    return run


@pytest.fixture
def hold_calls(gateway: Any) -> Iterator[Callable[..., None]]:
    """`hold_calls(3, "wait", client="x", seconds=25)`: begin calls that stay in flight during the test."""
    held: list[HTTPConnection] = []

    def run(count: int, name: str, /, client: str = AGENT, **arguments: Any) -> None:
        for _ in range(count):
            request = request_of(gateway.url, name, arguments, client)
            held.append(HTTPConnection(request.host, timeout=60))
            held[-1].request("POST", request.selector, request.data, dict(request.header_items()))

    yield run
    for connection in held:
        connection.close()  # cancels the call
