"""Web pages in a real browser call the gateway from other origins.

The page is its own MCP client and reports to its own server. Without a browser on the machine these tests are skipped;
`tests/downstream/browsers/` tests the same headers without one.
"""

from __future__ import annotations

import json
import queue
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

PAGE = """<!DOCTYPE html><meta charset="utf-8"><title>client</title><script>
const url = new URLSearchParams(location.search).get("gateway");
const both = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"};
const post = (body, headers) =>
  fetch(url, {method: "POST", headers: {...both, ...headers}, body: JSON.stringify(body)});
// A slow machine may answer even a quick call with a stream.
const answer = async response =>
  JSON.parse((await response.text()).split("\\n").map(it => it.replace(/^data: ?/, "")).find(it => it.startsWith("{")));
const call = (id, name, args) => ({jsonrpc: "2.0", id, method: "tools/call", params: {name, arguments: args}});
async function run() {
  const found = {};
  const hello = await post({jsonrpc: "2.0", id: 0, method: "initialize", params: {
    protocolVersion: "2025-11-25", capabilities: {}, clientInfo: {name: "page", version: "1"}}});
  const id = hello.headers.get("Mcp-Session-Id");
  found.session = id !== null;
  found.hello = hello.headers.get("Content-Type");
  const session = {"Mcp-Session-Id": id, "MCP-Protocol-Version": "2025-11-25"};
  found.initialized = (await post({jsonrpc: "2.0", method: "notifications/initialized"}, session)).status;
  const tracing = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
  const quick = await post(call(1, "wait", {seconds: 0}), {...session, ...tracing, "Authorization": "Bearer x"});
  found.quick = (await answer(quick)).result.content[0].text;
  const slow = await post(call(2, "wait", {seconds: 3}), session);
  found.slow = [slow.headers.get("Content-Type"), (await slow.text()).includes("waited 3 s")];
  const stop = new AbortController();
  const stream = await fetch(url, {headers: {...session, "Accept": "text/event-stream"}, signal: stop.signal});
  found.stream = [stream.status, stream.headers.get("Content-Type")];
  stop.abort();
  const resuming = {...session, "Accept": "text/event-stream", "Last-Event-ID": "0-0"};
  found.resumed = (await fetch(url, {headers: resuming})).status;
  found.deleted = (await fetch(url, {method: "DELETE", headers: session})).status;
  const gone = await post(call(3, "wait", {seconds: 0}), session);
  found.gone = [gone.status, (await gone.json()).error.message];
  const meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {name: "page", version: "1"}};
  const request = call(4, "wait", {seconds: 0});
  request.params._meta = meta;
  const modern = await post(request, {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call",
    "Mcp-Name": "wait", "Mcp-Param-Region": "x"});
  found.modern = [modern.status, (await answer(modern)).result.content[0].text];
  found.ready = (await fetch(new URL("/readyz", url))).status;
  found.unknown = (await fetch(new URL("/.well-known/oauth-protected-resource", url),
    {headers: {"MCP-Protocol-Version": "2025-11-25"}})).status;
  return found;
}
run().catch(error => ({error: String(error)})).then(
  found => fetch("/report", {method: "POST", body: JSON.stringify(found)}));
</script>"""
EXPECTED = {
    "session": True,
    "initialized": 202,
    "hello": "application/json",
    "quick": "waited 0 s",
    "slow": ["text/event-stream", True],
    "stream": [200, "text/event-stream"],
    "resumed": 400,
    "deleted": 204,
    "gone": [404, "no such session; begin a new one with initialize"],
    "modern": [200, "waited 0 s"],
    "ready": 200,
    "unknown": 404,
}


class Site:
    """A web site on a port of this machine. `reports` receives what its page has found."""

    def __init__(self) -> None:
        self.reports: queue.Queue[Any] = queue.Queue()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = PAGE.encode() if self.path.startswith("/?") else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                site.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.close()


@pytest.fixture
def visit(launcher: Any, site: Site, tmp_path: Path) -> Callable[[str, Any], Any]:
    """Open the page under a host name in a browser; returns its report."""

    def run(host: str, gateway: Any) -> Any:
        address = f"http://{host}:{site.port}/?gateway={gateway.url}"
        launcher.processes.start(
            "browser",
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--no-proxy-server"),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            "--remote-debugging-port=0",  # keeps it open until the test ends it
            address,
        )
        try:
            return site.reports.get(timeout=60)
        except queue.Empty:
            pytest.fail(f"the page did not report:\n{launcher.processes.log('browser')}")

    return run


def settings() -> dict[str, Any]:
    command = {"command": sys.executable, "args": [str(HERE / "servers" / "slow.py")]}
    return {"upstreams": [{"name": "slow", "transport": "stdio", **command}]}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_this_machine_works_by_default(launcher: Any, visit: Any, host: str) -> None:
    gateway = launcher.gateway(settings(), upstreams=1)
    assert visit(host, gateway) == EXPECTED


def test_a_page_of_an_allowed_origin_works(launcher: Any, visit: Any, site: Site) -> None:
    origin = f"http://app.example:{site.port}"
    gateway = launcher.gateway({**settings(), "allowed_origins": [origin]}, upstreams=1)
    assert visit("app.example", gateway) == EXPECTED


def test_a_page_of_another_origin_is_kept_out(launcher: Any, visit: Any, site: Site) -> None:
    gateway = launcher.gateway({**settings(), "allowed_origins": [f"http://app.example:{site.port}"]}, upstreams=1)
    assert visit("evil.example", gateway) == {"error": "TypeError: Failed to fetch"}
