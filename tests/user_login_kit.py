"""A gateway whose agents log in at a tracker for themselves, the agents, and a browser."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gateway_core.config.loader import loads
from gateway_core.gateway import Gateway
from tests.login_kit import Tracker
from tests.ports import free_port

USER = "X-User"
"""The header in which the trusted proxy, which a test is, names the person."""
TOML = """
[mcp.proxy]
enable = true
port = {port}
public_url = "http://127.0.0.1:{port}"
{top}
[mcp.proxy.trusted_proxies]
networks = ["127.0.0.1"]
identity_header = "X-User"
[[mcp.proxy.upstreams]]
name = "tracker"
transport = "http"
url = "{origin}/mcp"
health_check_interval = 0.5
{upstream}
[mcp.proxy.upstreams.auth]
grant = "authorization_code"
identity = "user"
{auth}
{more}
"""
VERSION = "2026-07-28"
URL_AND_FORM = {"elicitation": {"form": {}, "url": {}}}
URL_ONLY = {"elicitation": {"url": {}}}
FORM_ONLY = {"elicitation": {"form": {}}}


class Browser:
    """A browser: it follows redirects, and sends what its proxy adds."""

    def __init__(self, http: aiohttp.ClientSession, user: str = "") -> None:
        self._http = http
        self._headers = {USER: user} if user else {}

    async def open(self, url: str, verb: str = "GET") -> tuple[int, str, Mapping[str, str]]:
        async with self._http.request(verb, url, headers=self._headers) as answer:
            return answer.status, await answer.text(), answer.headers

    async def log_in(self, url: str) -> tuple[int, str]:
        """Open the page of a login, press its button, and return status and text of the page at the end."""
        status, page, _ = await self.open(url)
        if "<button" not in page:
            return status, page
        return (await self.open(url, "POST"))[:2]


def code_in(page: str) -> str:
    """The code that a page shows."""
    found = re.search(r'<pre class="code">([^<]+)</pre>', page)
    assert found is not None, page
    return found[1]


class Agent:
    """A modern agent of one person."""

    def __init__(self, world: World, user: str, capabilities: Any = None) -> None:
        self.world, self.user = world, user
        self.capabilities = {} if capabilities is None else capabilities

    async def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**(params or {}), "_meta": meta}}
        headers = {
            "MCP-Protocol-Version": VERSION,
            "Mcp-Method": method,
            "Accept": "application/json, text/event-stream",
        }
        if self.user:
            headers[USER] = self.user
        if params is not None and "name" in params:
            headers["Mcp-Name"] = params["name"]
        async with self.world.http.post(f"{self.world.base}/mcp", json=message, headers=headers) as answer:
            text = await answer.text()
        if answer.content_type == "text/event-stream":
            text = [line for line in text.splitlines() if line.startswith("data: ")][-1][6:]
        found: dict[str, Any] = json.loads(text)
        return found

    async def call(self, name: str = "search", arguments: Any = None, **more: Any) -> dict[str, Any]:
        return await self.request("tools/call", {"name": name, "arguments": arguments or {}, **more})

    async def answered(self, asked: dict[str, Any], action: str = "accept", **content: Any) -> dict[str, Any]:
        """Call again, with the answer to the only question of an `input_required` result."""
        result = asked["result"]
        (key,) = result["inputRequests"]
        answer = {"action": action, **({"content": content} if content else {})}
        return await self.call(self.world.called, inputResponses={key: answer}, requestState=result["requestState"])

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.request("tools/list"))["result"]["tools"]]


def url_of(asked: dict[str, Any]) -> str:
    """The address in an `input_required` result."""
    (question,) = asked["result"]["inputRequests"].values()
    assert question["params"]["mode"] == "url"
    return str(question["params"]["url"])


def text_of(answer: dict[str, Any]) -> str:
    """The text of a tool's result."""
    return str(answer["result"]["content"][0]["text"])


class World:
    """The gateway, the tracker, and what is needed to use them."""

    def __init__(self, gateway: Gateway, tracker: Tracker, base: str, http: aiohttp.ClientSession) -> None:
        self.gateway, self.tracker, self.base, self.http = gateway, tracker, base, http
        self.called = "search"
        """The tool that `Agent.answered` calls again."""

    def agent(self, user: str = "ada", capabilities: Any = None) -> Agent:
        return Agent(self, user, capabilities)

    def browser(self, user: str = "") -> Browser:
        return Browser(self.http, user)

    async def logged_in(self, user: str) -> Agent:
        """An agent of a person who has logged in."""
        self.tracker.person = user
        agent = self.agent(user, URL_AND_FORM)
        asked = await agent.call("tracker_login")
        await self.browser(user).log_in(url_of(asked))
        return agent


@asynccontextmanager
async def tracker_served() -> AsyncIterator[Tracker]:
    """A tracker on the loop of the test."""
    tracker = Tracker()
    runner = web.ServerRunner(web.Server(tracker.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tracker.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield tracker
    finally:
        await runner.cleanup()


@asynccontextmanager
async def world(
    toml: str = TOML, *, logins: Path | None = None, tracker: Tracker | None = None, **parts: str
) -> AsyncIterator[World]:
    """`parts`: what the places in `toml` get: `top`, `upstream`, `auth`, `more`. `tracker`: one that is served."""
    async with AsyncExitStack() as ends:
        tracker = tracker or await ends.enter_async_context(tracker_served())
        http = await ends.enter_async_context(aiohttp.ClientSession())
        port = free_port()
        filled = {"top": "", "upstream": "", "auth": "", "more": "", **parts}
        config = loads(toml.format(port=port, origin=tracker.origin, **filled), Path("mcp-proxy.toml"), {})
        gateway = Gateway(config, logins=logins)
        await gateway.start()
        try:
            await gateway.wait_first_discovery()
            yield World(gateway, tracker, f"http://127.0.0.1:{port}", http)
        finally:
            await asyncio.wait_for(gateway.stop(), 30)
