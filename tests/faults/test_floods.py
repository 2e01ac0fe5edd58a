"""Floods: while a stranger sends anything at full speed, an honest agent on another upstream is served."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port

RAD = Path(sys.executable).with_name("rad")
SERVERS = Path(__file__).with_name("servers")
SECONDS = float(os.environ.get("FLOOD_SECONDS", "2"))
"""How long a flood lasts."""
SHARE = 0.1
SHARES = {"bodies": 0.01, "links": 0.02}
"""The share of the calls without a flood that must be answered during one. One message of 4 MiB, or one result with
thousands of links, takes as long as a hundred small calls."""
LARGE = {"bodies": 20, "links": 1}
"""Calls that must be answered for each large message of a flood that is served."""
OF_CHILDREN = ("lines", "pings", "list changes", "progress", "links", "items")
OF_STREAMS = ("events", "comments")
OF_AGENTS = ("bodies", "headers", "sockets", "sessions")


BASE = """[mcp.proxy]
enable = true
port = {port}
[mcp.proxy.log]
level = "WARNING"
[[mcp.proxy.plugins]]
name = "routing_priority"
[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
"""
"""Without a rate limit, which would end most floods."""


class Honest:
    """An honest agent with one session and one connection."""

    def __init__(self, port: int, name: str = "honest") -> None:
        self._port = port
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        client = {"name": name, "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        self._number = 0
        try:
            self.request("initialize", params)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._client.close()

    def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params}
        self._client.request("POST", "/mcp", json.dumps(message), self._headers)
        response = self._client.getresponse()
        body = response.read()
        assert response.status == 200, body
        if session := response.headers.get("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session
        if response.headers.get("Content-Type", "").startswith("text/event-stream"):
            body = body.split(b"data: ")[-1]
        answer: dict[str, Any] = json.loads(body)
        return answer

    def calls(self, seconds: float) -> int:
        """The number of calls that are answered, one after the other. Each must succeed."""
        end, answered = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            answer = self.request("tools/call", {"name": "echo", "arguments": {"text": "x"}})
            assert "result" in answer, answer
            assert answer["result"]["content"][0]["text"] == "done"
            answered += 1
        return answered


class Gateway:
    """A gateway with an honest upstream and one that floods."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.kind = kind
        self.results = 0
        """Results of the hostile upstream that an agent got."""
        self._replies = folder / "replies"
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        hostile = ""
        if kind in OF_CHILDREN:
            hostile = self._upstream("hostile", args=[str(SERVERS / "flooder.py"), kind])
        elif kind in OF_STREAMS:
            port = free_port()
            self._start(sys.executable, str(SERVERS / "streamer.py"), str(port), kind)
            url = f"http://127.0.0.1:{port}/mcp"
            hostile = f'[[mcp.proxy.upstreams]]\nname = "hostile"\ntransport = "http"\nurl = "{url}"\n'
        config = folder / "mcp-proxy.toml"
        honest = self._upstream("honest", args=[str(SERVERS / "flooder.py"), "honest"])
        config.write_text(BASE.format(port=self.port) + honest + hostile)
        self.log = folder / "log"
        with self.log.open("wb") as log:
            command = [str(RAD), "mcp", "proxy", "start", "--config", str(config)]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        deadline = time.monotonic() + 60
        while True:
            agent = None
            try:
                agent = self.honest = Honest(self.port)
                assert agent.calls(0.01)
                break
            except (OSError, AssertionError, KeyError, http.client.HTTPException):
                if agent is not None:
                    agent.close()
                assert self._processes[-1].poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def _upstream(self, name: str, args: list[str]) -> str:
        table = f'[[mcp.proxy.upstreams]]\nname = "{name}"\ntransport = "stdio"\n'
        return f"{table}command = {json.dumps(sys.executable)}\nargs = {json.dumps(args)}\n"

    def _start(self, *command: str) -> None:
        with self._replies.open("wb") as replies:
            self._processes.append(subprocess.Popen(command, stdout=replies, start_new_session=True))

    def large(self) -> int:
        """The large messages of the flood that were served so far."""
        return self._replies.stat().st_size if self.kind in OF_AGENTS else self.results

    def flood(self, seconds: float) -> threading.Thread | None:
        """Begin the flood; returns the thread that keeps it up, if any."""
        if self.kind in OF_AGENTS:
            self._start(sys.executable, str(SERVERS / "agents.py"), self.kind, str(self.port))
            return None
        if self.kind in OF_STREAMS:
            return None

        def keep_up() -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                hostile = None
                try:
                    hostile = Honest(self.port, "hostile")
                    while time.monotonic() < end:
                        hostile.request("tools/call", {"name": "hostile:flood", "arguments": {"seconds": seconds}})
                        self.results += 1
                        if self.kind == "items":
                            time.sleep(1)
                except (OSError, AssertionError, http.client.HTTPException):
                    time.sleep(0.05)
                finally:
                    if hostile is not None:
                        hostile.close()

        thread = threading.Thread(target=keep_up, daemon=True)
        thread.start()
        return thread

    def end_flood(self) -> None:
        for process in self._processes[1:] if self.kind in OF_AGENTS else ():
            process.kill()
            process.wait(10)

    def stop(self) -> None:
        self.honest.close()
        for process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


@pytest.fixture
def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Gateway]:
    running = Gateway(tmp_path, request.param)
    yield running
    running.stop()


pytestmark = [pytest.mark.flood, pytest.mark.timeout(60 + 4 * SECONDS)]


@pytest.mark.parametrize("gateway", [*OF_CHILDREN, *OF_AGENTS], indirect=True)
def test_an_honest_agent_is_served_during_a_flood(gateway: Gateway) -> None:
    gateway.honest.calls(0.5)
    before = gateway.honest.calls(SECONDS)
    thread = gateway.flood(SECONDS + 1)
    time.sleep(0.5)
    large = gateway.large()
    during = gateway.honest.calls(SECONDS)
    served = gateway.large()
    gateway.end_flood()
    if thread is not None:
        thread.join(30)
    print(f"{gateway.kind}: {before} calls before, {during} during the flood and {served - large} large messages")
    assert during >= SHARES.get(gateway.kind, SHARE) * before
    if gateway.kind in LARGE:
        assert served > 0, "there was a flood"
        assert during >= LARGE[gateway.kind] * (served - large)
    assert gateway.honest.calls(0.1) > 0


@pytest.mark.parametrize("kind", OF_STREAMS)
def test_an_honest_agent_is_served_while_a_stream_floods(kind: str, tmp_path: Path) -> None:
    quiet, noisy = tmp_path / "quiet", tmp_path / "noisy"
    quiet.mkdir()
    noisy.mkdir()
    alone = Gateway(quiet, "bodies")
    try:
        alone.honest.calls(0.5)
        before = alone.honest.calls(SECONDS)
    finally:
        alone.stop()
    flooded = Gateway(noisy, kind)
    try:
        flooded.honest.calls(0.5)
        during = flooded.honest.calls(SECONDS)
    finally:
        flooded.stop()
    print(f"{kind}: {before} calls before, {during} during the flood")
    assert during >= SHARE * before
