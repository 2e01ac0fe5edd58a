"""Keys, from the command that makes one to calls of official clients, and to the end of a revoked one."""

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.acceptance.conftest import Rad, rad, wait_until

CONFIG = f"""
[mcp.proxy]
enable = true
port = {{port}}

[[mcp.proxy.upstreams]]
name = "demo"
transport = "stdio"
command = {sys.executable!r}
args = ["-m", "gateway_core.demo.stdio_server"]

[[mcp.proxy.plugins]]
name = "auth_apikey"

[[mcp.proxy.plugins]]
name = "security_ratelimit"
rate_limit_per_minute = 1

[[mcp.proxy.plugins.limits]]
groups = ["staff"]
rate_limit_per_minute = 3
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}},
}


def post(running: Rad, headers: dict[str, str], body: dict[str, Any] = INITIALIZE) -> tuple[int, dict[str, str], Any]:
    given = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **headers}
    request = urllib.request.Request(running.url, json.dumps(body).encode(), given)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def status_of(running: Rad, headers: dict[str, str]) -> int:
    return post(running, headers)[0]


async def sums(running: Rad, headers: dict[str, str], mode: str, number: int) -> list[str]:
    """The results of calls by the official client, or the messages of their errors."""
    found = []
    async with (
        httpx2.AsyncClient(headers=headers, trust_env=False, timeout=60) as http,
        Client(streamable_http_client(running.url, http_client=http), mode=mode) as client,
    ):
        for _ in range(number):
            try:
                result = await client.call_tool("add", {"a": 2, "b": 3})
                found.append(result.content[0].text)
            except Exception as error:
                found.append(str(error))
    return found


@pytest.mark.timeout(180)
def test_a_key_from_the_command_to_its_end(gateway):
    running = gateway(CONFIG)
    assert running.run("keys", "list").stdout.startswith("no keys")
    refused = post(running, {})
    assert (refused[0], refused[1]["WWW-Authenticate"]) == (401, 'Bearer realm="radium"')

    made = running.run("keys", "add", "alice", "--group", "staff")
    assert made.returncode == 0, made.stderr
    alice = made.stdout.strip()
    bob = running.run("keys", "add", "bob").stdout.strip()
    wait_until(lambda: status_of(running, bearer(alice)) == 200, what="the new key")
    wait_until(lambda: status_of(running, {"X-Api-Key": bob}) == 200, what="the other key")
    wrong = post(running, bearer(alice[:-1] + ("a" if alice[-1] != "a" else "b")))
    assert wrong[0] == 401
    assert wrong[2] == refused[2], "no refusal says more than another"

    # A name is not an identity: both say that they are the same client, and each has limits of its own.
    assert asyncio.run(sums(running, bearer(alice), "legacy", 2)) == ["5", "5"]
    called = asyncio.run(sums(running, {"X-Api-Key": alice}, "auto", 2))
    assert called[0] == "5"
    assert "Rate limit exceeded: 3 calls per minute" in called[1]
    called = asyncio.run(sums(running, bearer(bob), "auto", 2))
    assert called[0] == "5"
    assert "Rate limit exceeded: 1 call per minute" in called[1]

    _, headers, _ = post(running, bearer(alice))
    session = {"Mcp-Session-Id": headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    assert post(running, {**session, **bearer(alice)}, ping)[0] == 200
    assert post(running, {**session, **bearer(bob)}, ping)[0] == 404, "a session belongs to its principal"

    carol = running.run("keys", "add", "carol").stdout.strip()
    called = running.run("call", "now")
    assert called.returncode == 1
    assert "with the key or token in RADIUM_TOKEN; none is set" in called.stderr
    wait_until(lambda: status_of(running, bearer(carol)) == 200, what="the third key")
    called = rad("call", "now", "--config", str(running.config), env={**os.environ, "RADIUM_TOKEN": carol})
    assert (called.returncode, called.stderr) == (0, "")

    assert running.run("keys", "revoke", "alice").returncode == 0
    wait_until(lambda: status_of(running, bearer(alice)) == 401, what="the end of the key")
    assert post(running, {**session, **bearer(alice)}, ping)[0] == 401
    assert post(running, {"X-Api-Key": bob})[0] == 200
    called = rad("call", "now", "--config", str(running.config), env={**os.environ, "RADIUM_TOKEN": alice})
    assert "RADIUM_TOKEN; it is refused" in called.stderr
    called = rad("call", "now", "--config", str(running.config), env={**os.environ, "RADIUM_TOKEN": "schlüssel"})
    assert (called.returncode, "has characters that are in no key" in called.stderr) == (2, True)

    log = running.log.read_text()
    secrets = [key[17:60] for key in (alice, bob, carol)]
    assert not any(secret in log for secret in secrets)
    assert "|auth_apikey" in log
    assert [status_of(running, bearer(key)) for key in (alice, bob)] == [401, 200]


@pytest.mark.timeout(120)
def test_a_damaged_file_stops_the_start_with_file_and_line(gateway, tmp_path):
    config = tmp_path / "mcp-proxy.toml"
    config.write_text(CONFIG.replace("{port}", "3000"))
    config.chmod(0o600)
    assert rad("keys", "add", "alice", "--config", str(config)).returncode == 0
    file = config.with_name("mcp-proxy.keys")
    file.write_text(f"{file.read_text()}hunter2\n")
    for command in (["start"], ["check"], ["keys", "list"]):
        done = rad(*command, "--config", str(config))
        assert done.returncode == 2
        assert f"mcp.proxy.plugins[0] (auth_apikey): file: {file}:3: is not valid JSON" in done.stderr
        assert "hunter2" not in done.stderr
