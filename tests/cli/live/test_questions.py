"""An operator answers, on the command line, the question of a plugin about the call of a client of the official SDK."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp.types import ElicitResult

pytestmark = pytest.mark.timeout(180)  # several processes start, one after the other

APPROVAL = """
[[mcp.proxy.plugins]]
name = "security_approval"
always = ["add"]
answer = "page"
approvers = ["operator|control-plane"]
"""


async def add(url: str) -> str:
    async def opened(*_: Any) -> ElicitResult:
        return ElicitResult(action="accept")

    async with Client(url, mode="2026-07-28", elicitation_callback=opened, read_timeout_seconds=100) as client:
        try:
            return str((await client.call_tool("add", {"a": 1, "b": 2})).content[0].text)
        except MCPError as error:
            return error.message


@pytest.mark.parametrize(("option", "said"), [("--approve", "3"), ("--deny", "the user declined it")])
def test_a_call_is_approved_or_denied(
    with_server: Any, spawn: Any, rad: Any, wait_for: Any, wait_for_upstream: Any, option: str, said: str
) -> None:
    with (with_server / ".radium" / "mcp-proxy.toml").open("a") as file:
        file.write(APPROVAL)
    spawn("start")
    wait_for_upstream()
    url = json.loads(rad("status", "--json").stdout)["address"].removesuffix("/mcp") + "/mcp"
    found: list[Any] = []

    def waits() -> bool:
        found[:] = json.loads(rad("questions", "--json").stdout)["questions"]
        return bool(found)

    with ThreadPoolExecutor(1) as pool:
        agent = pool.submit(asyncio.run, add(url))
        wait_for(waits, 60)
        (question,) = found
        shown = rad("questions").stdout
        assert question["id"] in shown
        assert "  Tool: add\n" in shown
        done = rad("questions", option, question["id"])
        assert (done.returncode, question["id"] in done.stderr) == (0, True)
        assert said in agent.result(timeout=100)
