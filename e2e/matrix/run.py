"""Runs the matrix: `python e2e/matrix/run.py` writes `docs/compatibility.md`, and `--check` compares with it.

For each server of `upstreams.py` a gateway is started, and each client of `clients.py` takes the server's steps
through it, as a process of its own. Three servers are worked on at once. A client that says nothing for twenty seconds
is ended, and what it has not done is a "no".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

from clients import CLIENTS, NODE, Client, Package
from judge import clean, judge
from page import Results, Row, lost, render
from upstreams import E2E, NODE_MODULES, UPSTREAMS, Upstream

sys.path.insert(0, str(E2E))
from conftest import Launcher, Processes, answers, wait_until

from tests.ports import free_port

PAGE: Final = E2E.parent / "docs" / "compatibility.md"
SILENCE_LIMIT: Final = 20.0
AT_ONCE: Final = 3


@dataclass(frozen=True, slots=True)
class Place:
    """What stands for the names in the texts of `upstreams.py`."""

    workspace: Path
    page: str

    def fill(self, value: Any, port: int = 0) -> Any:
        """The same value with the names replaced, however deep they are."""
        if isinstance(value, str):
            names = {"{workspace}": str(self.workspace), "{page}": self.page, "{port}": str(port)}
            for name, text in names.items():
                value = value.replace(name, text)
            return value
        if isinstance(value, Mapping):
            return {key: self.fill(each, port) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.fill(each, port) for each in value]
        return value


def main() -> int:
    parser = argparse.ArgumentParser(description="Real clients with real servers, through the gateway.")
    parser.add_argument("--check", action="store_true", help="fail where the page says yes and it is no longer so")
    parser.add_argument("--server", default="", help="only servers whose title has this; prints, writes no page")
    parser.add_argument("--client", default="", help="only clients whose title has this; prints, writes no page")
    parser.add_argument("--direct", action="store_true", help="without the gateway, for servers on HTTP; no page")
    chosen = parser.parse_args()
    clients = [client for client in CLIENTS if chosen.client in client.title]
    upstreams = [upstream for upstream in UPSTREAMS if chosen.server in upstream.title]
    if chosen.direct:
        upstreams = [upstream for upstream in upstreams if upstream.transport == "http"]
    # Ended from outside it ends its gateways and servers all the same.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory() as folder, _place(Path(folder).resolve()) as place:
        raw = asyncio.run(_matrix(upstreams, clients, place, chosen.direct))
    page = _page(upstreams, clients, raw)
    if chosen.server or chosen.client or chosen.direct:
        print(page)
        return 0
    if not chosen.check:
        PAGE.write_text(page)
        print(f"written: {PAGE.relative_to(E2E.parent)}")
        return 0
    gone = lost(PAGE.read_text(), page)
    print("\n".join(gone) or "every yes of the page holds")
    return 1 if gone else 0


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[Place]:
    """A workspace for the servers, and a web page."""
    workspace = folder / "workspace"
    repository = workspace / "repository"
    repository.mkdir(parents=True)
    (workspace / "hello.txt").write_text("first line\nsecond line\n")
    ada = {"type": "entity", "name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    (workspace / "memory.jsonl").write_text(json.dumps(ada) + "\n")
    git = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-C", str(repository))
    for step in (("init", "-q", "-b", "main"), ("commit", "-q", "--allow-empty", "-m", "The first commit")):
        subprocess.run([*git, *step], check=True, timeout=20)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Place(workspace, f"http://127.0.0.1:{server.server_port}/page")
        server.shutdown()


class _Page(BaseHTTPRequestHandler):
    """The page that `fetch` fetches; there is nothing else, and no robots.txt.

    A plain text: of HTML that server extracts the article, for which it runs `npm install` in each call.
    """

    def do_GET(self) -> None:
        body = b"A page for the matrix.\n" if self.path == "/page" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one client did with one server, and the protocol revision that it got."""

    results: Results
    revision: str


async def _matrix(
    upstreams: Sequence[Upstream], clients: Sequence[Client], place: Place, direct: bool
) -> dict[tuple[str, str], Taken]:
    turns = asyncio.Semaphore(AT_ONCE)
    taken: dict[tuple[str, str], Taken] = {}

    async def row(number: int, upstream: Upstream) -> None:
        async with turns:
            folder = place.workspace.parent / f"row-{number}"
            folder.mkdir()
            launcher = Launcher(Processes(folder))
            try:
                url = await asyncio.to_thread(_start, upstream, launcher, place, direct)
                for client in clients:
                    taken[upstream.title, client.title] = await _use(upstream, client, url, folder, place)
            finally:
                await asyncio.to_thread(launcher.processes.end)
            print(f"{upstream.title}: done", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as group:
        for number, upstream in enumerate(upstreams):
            group.create_task(row(number, upstream))
    return taken


def _start(upstream: Upstream, launcher: Launcher, place: Place, direct: bool) -> str:
    """The server, and a gateway over it alone; the URL for the clients."""
    name = re.sub(r"\W+", "-", upstream.title).lower()
    if upstream.transport == "stdio":
        command, *args = place.fill(upstream.command)
        entry = {"transport": "stdio", "command": command, "args": args, "env": place.fill(upstream.env)}
    else:
        port = free_port()
        url = f"http://127.0.0.1:{port}{upstream.path}"
        env = {"PORT": str(port), **place.fill(upstream.env)}
        launcher.processes.start(name, *place.fill(upstream.command, port), env=env)
        # The SSE server's own path would hold the question open; any answer shows that it listens.
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/mcp") > 0, f"{name} listens")
        if direct:
            return url
        entry = {"transport": upstream.transport, "url": url}
    return launcher.gateway({"upstreams": [{"name": name, **entry}]}, upstreams=1).url


async def _use(upstream: Upstream, client: Client, url: str, folder: Path, place: Place) -> Taken:
    """One client's process; what it took of the server's steps, judged."""
    home = folder / re.sub(r"\W+", "-", client.title)
    home.mkdir()
    plan = json.dumps({step: place.fill(ask.needs) for step, ask in upstream.steps.items()})
    with (home / "stderr").open("wb") as stderr:
        driver = await asyncio.create_subprocess_exec(
            *client.command,
            url,
            plan,
            client.era,
            env={"PATH": f"{NODE.parent}:{os.environ['PATH']}", "HOME": str(home), "FASTMCP_CHECK_FOR_UPDATES": "off"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            lines = await _lines(driver)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)
            await driver.wait()
    asks = {step: replace(ask, right=place.fill(ask.right)) for step, ask in upstream.steps.items()}
    if not lines:
        last = (home / "stderr").read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        return Taken({"connect": clean(f"the client did not start: {last[0]}", place.workspace)}, "")
    can, *reports = lines
    results = judge(can["can"], reports, asks, client.drops_progress)
    cleaned = {step: error and clean(error, place.workspace) for step, error in results.items()}
    revision = next((str(report["got"]) for report in reports if report["step"] == "connect" and "got" in report), "")
    return Taken(cleaned, revision)


async def _lines(driver: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """A driver's lines, until its end or until it is silent for too long."""
    assert driver.stdout is not None
    lines: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        while line := await asyncio.wait_for(driver.stdout.readline(), SILENCE_LIMIT):
            lines.append(json.loads(line))
    return lines


def _page(upstreams: Sequence[Upstream], clients: Sequence[Client], taken: Mapping[tuple[str, str], Taken]) -> str:
    def revisions(client: Client) -> str:
        found = {each.revision for (_, title), each in taken.items() if title == client.title} - {""}
        return ", ".join(sorted(found)) or "none"

    return render(
        gateway=f"`gateway-core` {installed_version('gateway-core')}",
        clients=[Row(each.title, each.about, f"{_version(each.package)}, {revisions(each)}") for each in clients],
        servers=[Row(each.title, f"`{each.package.name}`", _version(each.package)) for each in upstreams],
        cells={cell: each.results for cell, each in taken.items()},
    )


@cache
def _version(package: Package) -> str:
    if package.python is None:
        found: str = json.loads((NODE_MODULES / package.name / "package.json").read_text())["version"]
        return found
    ask = f"import importlib.metadata; print(importlib.metadata.version({package.name!r}))"
    done = subprocess.run([str(package.python), "-c", ask], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
