"""A person approves calls on a page of the gateway, in a real browser, while clients of the official SDK wait.

Without a browser on the machine these tests are skipped, as those of `test_browser.py` are;
`tests/downstream/browsers/test_question_page.py` tests the page without one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.types import ElicitResult, Implementation

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Gateway, Launcher, Tools
from test_browser import BROWSER

MODES = {"legacy": "legacy", "modern": "2026-07-28"}
PEOPLE = {"alice": "dev", "carol": "approvers"}

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@dataclass
class World:
    """A gateway that asks on pages, the keys of people, and what their browser has shown."""

    gateway: Gateway
    tools: Tools
    home: Path
    keys: dict[str, str]
    shown: list[Any] = field(default_factory=list)

    async def call(self, era: str, answer: str, *keys: str) -> str:
        """The text of a call of `add`, about which a person decides; the error if it is refused."""
        browsers: list[asyncio.Task[None]] = []

        async def opened(context: Any, params: Any) -> ElicitResult:
            assert params.mode == "url"
            browsers.append(asyncio.create_task(self.browse(params.url, answer, keys)))
            return ElicitResult(action="accept")

        headers = {"Authorization": f"Bearer {self.keys['alice']}"} if self.keys else {}
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=60))
            client = await stack.enter_async_context(
                Client(
                    streamable_http_client(self.gateway.url, http_client=http),
                    mode=MODES[era],
                    client_info=Implementation(name="waiting", version="1"),
                    read_timeout_seconds=60,
                    elicitation_callback=opened,
                )
            )
            try:
                found = str((await client.call_tool("add", {"a": 1, "b": 2})).content[0].text)
            except MCPError as error:
                found = error.message
            await asyncio.gather(*browsers)
        assert len(browsers) == 1
        return found

    async def browse(self, url: str, answer: str, keys: tuple[str, ...]) -> None:
        arguments = ("approval/browser.mjs", str(BROWSER), url, answer, json.dumps(keys))
        done = await asyncio.to_thread(self.tools.run_node, *arguments, home=self.home)
        assert done.returncode == 0, done.stderr
        self.shown.append(json.loads(done.stdout))


@pytest.fixture
def start(launcher: Launcher, tools: Tools, tmp_path: Path) -> Callable[..., World]:
    """`start(authenticated=True)`: with `auth_apikey`, where only members of `approvers` may answer."""

    def run(*, authenticated: bool) -> World:
        command = {"command": sys.executable, "args": ["-m", "gateway_core.demo.stdio_server"]}
        approval: dict[str, Any] = {"name": "security_approval", "always": ["add"], "answer": "page"}
        plugins = [approval]
        if authenticated:
            approval["approvers"] = ["approvers"]
            plugins.insert(0, {"name": "auth_apikey"})
        upstream = {"name": "demo", "transport": "stdio", **command}
        gateway = launcher.gateway({"upstreams": [upstream], "plugins": plugins}, upstreams=1)
        keys: dict[str, str] = {}
        for person, group in PEOPLE.items() if authenticated else ():
            add = [str(launcher.rad), "mcp", "proxy", "keys", "add", person, "--group", group]
            done = subprocess.run(
                [*add, "--config", str(gateway.config)], check=True, capture_output=True, text=True, timeout=30
            )
            keys[person] = done.stdout.strip()
        return World(gateway, tools, tmp_path, keys)

    return run


@pytest.mark.parametrize("era", MODES)
async def test_a_person_decides_in_a_browser_and_the_agents_own_key_does_not_help(
    start: Callable[..., World], era: str
) -> None:
    world = start(authenticated=True)
    own, approver = world.keys["alice"], world.keys["carol"]
    assert await world.call(era, "approve", own, approver) == "3"
    assert "add was not called: the user declined it" in await world.call(era, "decline", approver)
    approved, declined = world.shown
    assert approved["tried"] == ["An agent asks for your decision", "You approved the call"]
    assert declined["tried"] == ["You declined the call"]
    for shown in world.shown:
        assert "Server: demo\nTool: add\n" in shown["question"]
        assert shown["again"] == 404
        assert {path.split("/")[1] for path in shown["requested"]} <= {"ask", "favicon.ico"}
        assert [problem for problem in shown["problems"] if "status of" not in problem] == []


@pytest.mark.parametrize("era", MODES)
async def test_on_this_machine_a_person_needs_no_key(start: Callable[..., World], era: str) -> None:
    world = start(authenticated=False)
    assert await world.call(era, "approve") == "3"
    assert world.shown[0]["tried"] == ["You approved the call"]
