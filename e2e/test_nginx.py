"""People behind one nginx, set up as `docs/operations.md` says: each has separate limits, lists and sessions.

nginx tells them apart by their addresses, by the keys that they send, or by a login of its own (`identity_header`).
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult, Implementation

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Gateway, Launcher, answers, wait_until

from tests.ports import free_port

DOCS = Path(__file__).parents[1] / "docs" / "operations.md"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
MODES = {"legacy": "legacy", "modern": "2026-07-28"}
ADDRESSES = {"alice": "127.0.0.2", "bob": "127.0.0.3"}
CONFIG = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream gateway {{ server 127.0.0.1:{port}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{listen};
        {login}
        {location}
    }}
}}
"""
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine")


@dataclass
class World:
    """A gateway, nginx in front of it, and the headers of each person."""

    gateway: Gateway
    url: str
    headers: dict[str, dict[str, str]]

    def http(self, person: str) -> httpx2.AsyncClient:
        """The HTTP client of a person, from an address that this person alone has."""
        transport = httpx2.AsyncHTTPTransport(local_address=ADDRESSES[person])
        return httpx2.AsyncClient(transport=transport, headers=self.headers[person], timeout=60)

    @asynccontextmanager
    async def client(self, person: str, era: str, **options: Any) -> AsyncIterator[Client]:
        """A client of the SDK. All people use the same program."""
        async with (
            self.http(person) as http,
            Client(
                streamable_http_client(self.url, http_client=http),
                mode=MODES[era],
                client_info=Implementation(name="the-program", version="1"),
                read_timeout_seconds=60,
                **options,
            ) as client,
        ):
            yield client


def location(way: str) -> str:
    """The block of the documentation, to the gateway of the test."""
    found = re.search(r"```nginx\n(location / \{.*?\n\})\n```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    block = found[1].replace("http://127.0.0.1:3000", "http://gateway")
    assert "http://gateway" in block
    # One connection to the gateway serves all people.
    more = 'proxy_set_header Connection "";'
    if way == "login":
        line = re.search(r"`(proxy_set_header X-Forwarded-User \$remote_user;)`", DOCS.read_text())
        assert line is not None
        more += line[1]
    return f"{block[:-1]}{more}\n}}"


@pytest.fixture(params=["address", "key", "login"])
def start(request: pytest.FixtureRequest, launcher: Launcher, tmp_path: Path) -> Callable[..., World]:
    """`start(…)`: both parts, with these settings of the gateway."""
    way = request.param

    def run(plugins: list[dict[str, Any]], **settings: Any) -> World:
        proxies: dict[str, Any] = {"networks": ["127.0.0.1"]}
        if way == "login":
            proxies["identity_header"] = "X-Forwarded-User"
        if way == "key":
            plugins = [{"name": "auth_apikey"}, *plugins]
        program = {"command": sys.executable, "args": ["-m", "gateway_core.demo.stdio_server"]}
        upstream = {"name": "demo", "transport": "stdio", **program}
        listen = free_port()
        settings = {"public_url": f"http://127.0.0.1:{listen}", **settings}
        given = {"trusted_proxies": proxies, "plugins": plugins, "upstreams": [upstream], **settings}
        gateway = launcher.gateway(given, upstreams=1)
        headers: dict[str, dict[str, str]] = {}
        for person in ADDRESSES:
            if way == "key":
                headers[person] = {"Authorization": f"Bearer {add_key(launcher, gateway, person)}"}
            else:
                basic = base64.b64encode(f"{person}:secret of {person}".encode()).decode()
                headers[person] = {"Authorization": f"Basic {basic}"} if way == "login" else {}
        return World(gateway, start_nginx(launcher, tmp_path, gateway, way, listen), headers)

    return run


def add_key(launcher: Launcher, gateway: Gateway, person: str) -> str:
    command = [str(launcher.rad), "mcp", "proxy", "keys", "add", person, "--config", str(gateway.config)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def start_nginx(launcher: Launcher, folder: Path, gateway: Gateway, way: str, port: int) -> str:
    """Start nginx; returns the address of the gateway behind it."""
    login = ""
    if way == "login":
        people = folder / "people"
        people.write_text("".join(f"{person}:{{PLAIN}}secret of {person}\n" for person in ADDRESSES))
        people.chmod(0o644)
        login = f"auth_basic people; auth_basic_user_file {people};"
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # who can read the folder of the test
    block = location(way)
    config.write_text(
        CONFIG.format(user=user, folder=folder, port=gateway.port, listen=port, login=login, location=block)
    )
    launcher.processes.start("nginx", str(NGINX), "-p", str(folder), "-c", str(config))
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz") > 0, f"nginx: {launcher.processes.log('nginx')}")
    return f"http://127.0.0.1:{port}/mcp"


async def add(client: Client) -> str:
    """The sum of 1 and 2; the error of a call that is refused."""
    try:
        return str((await client.call_tool("add", {"a": 1, "b": 2})).content[0].text)
    except MCPError as error:
        return error.message


@pytest.mark.parametrize("era", MODES)
async def test_each_person_has_a_limit(start: Callable[..., World], era: str) -> None:
    world = start([{"name": "security_ratelimit", "rate_limit_per_minute": 2}])
    async with world.client("alice", era) as alice, world.client("bob", era) as bob:
        assert [await add(alice), await add(alice)] == ["3", "3"]
        assert "Rate limit exceeded" in await add(alice)
        assert [await add(bob), await add(bob)] == ["3", "3"]
        assert "Rate limit exceeded" in await add(bob)
    async with world.client("alice", era) as again:
        assert "Rate limit exceeded" in await add(again), "another connection is the same person"


@pytest.mark.parametrize("start", ["key", "login"], indirect=True)
@pytest.mark.parametrize("era", MODES)
async def test_each_person_has_a_list(start: Callable[..., World], era: str) -> None:
    rules = [
        {"name": "alice", "principals": ["alice"], "then": "allow"},
        {"name": "everybody", "tools": ["add"], "then": "allow"},
    ]
    world = start([{"name": "security_policy", "rules": rules}])
    async with world.client("alice", era) as alice, world.client("bob", era) as bob:
        for _ in range(2):
            of_alice, of_bob = [{tool.name for tool in (await it.list_tools()).tools} for it in (alice, bob)]
            assert of_alice >= {"add", "word_count", "now"}
            assert of_bob == {"add"}
        assert (await alice.call_tool("word_count", {"text": "a b"})).is_error is False
        with pytest.raises(MCPError, match="Unknown tool"):
            await bob.call_tool("word_count", {"text": "a b"})


async def test_each_person_has_sessions(start: Callable[..., World]) -> None:
    world = start([], limits={"sessions_per_principal": 1})
    async with world.client("alice", "legacy") as alice, world.client("bob", "legacy") as bob:
        assert [await add(alice), await add(bob)] == ["3", "3"], "the session of one does not end that of the other"
    accept = {"Accept": "application/json, text/event-stream"}
    async with world.http("alice") as alice_http, world.http("bob") as bob_http:
        opened = await alice_http.post(world.url, json=INITIALIZE, headers=accept)
        assert opened.status_code == 200
        session = {**accept, "Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        assert (await bob_http.post(world.url, json=ping, headers=session)).status_code == 404
        assert (await bob_http.delete(world.url, headers=session)).status_code == 404
        assert (await alice_http.post(world.url, json=ping, headers=session)).status_code == 200


@pytest.mark.parametrize("start", ["address", "login"], indirect=True)
async def test_a_person_cannot_pretend_to_be_another(start: Callable[..., World]) -> None:
    world = start([{"name": "security_ratelimit", "rate_limit_per_minute": 1}])
    async with world.client("alice", "modern") as alice:
        assert await add(alice) == "3"
    for header in ({"X-Forwarded-For": ADDRESSES["bob"]}, {"X-Forwarded-User": "bob"}):
        world.headers["alice"] |= header
        async with world.client("alice", "modern") as alice:
            assert "Rate limit exceeded" in await add(alice), header
    async with world.client("bob", "modern") as bob:
        assert await add(bob) == "3"


@pytest.mark.parametrize("start", ["login"], indirect=True)
@pytest.mark.parametrize("era", MODES)
async def test_a_person_answers_for_their_own_agent_alone(start: Callable[..., World], era: str) -> None:
    """The page of a question is behind nginx, too: its login says who opens it."""
    world = start([{"name": "security_approval", "always": ["add"], "answer": "page"}])
    statuses: list[int] = []

    async def browse(url: str) -> None:
        for person in ("bob", "alice"):
            async with world.http(person) as http:
                page = await http.post(url, data={"answer": "approve"})
                statuses.append(page.status_code)

    async def opened(context: Any, params: Any) -> ElicitResult:
        assert params.url.startswith(world.url.removesuffix("/mcp"))
        browsing.append(asyncio.create_task(browse(params.url)))
        return ElicitResult(action="accept")

    browsing: list[asyncio.Task[None]] = []
    async with world.client("alice", era, elicitation_callback=opened) as alice:
        assert await add(alice) == "3"
    await asyncio.gather(*browsing)
    assert statuses == [403, 200]
