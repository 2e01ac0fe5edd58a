"""What the control plane answers about agents."""

from __future__ import annotations

import pytest
from mcp.types import Implementation

from tests.activity.conftest import READ_TOKEN, Stand, stand

__all__ = ["stand"]
pytestmark = pytest.mark.timeout(180)


async def test_an_agent_that_was_never_seen_is_not_found(stand: Stand) -> None:
    await stand.start(plugins=[])
    found = await stand.ask("/admin/limits?agent=nobody%7Ckeys", status=404)
    assert found["error"] == "no agent 'nobody|keys' is here, and none of its calls was recorded lately"


async def test_who_may_only_read_sees_the_limits_of_an_agent(stand: Stand) -> None:
    await stand.start(plugins=[])
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
    (call, *_) = (await stand.ask("/admin/calls/recent"))["calls"]
    found = await stand.ask(f"/admin/limits?agent={call['agent']}", token=READ_TOKEN)
    assert found == {"agent": call["agent"], "verified": False, "limits": [], "problems": []}


async def test_the_agents_of_recent_calls_are_listed_with_their_clients(stand: Stand) -> None:
    await stand.start(plugins=[])
    await stand.ask("/admin/calls/recent")
    for mode in ("2026-07-28", "legacy"):
        info = Implementation(name=f"client-{mode}", version="7")
        async with stand.client(mode=mode, client_info=info) as client:
            await client.call_tool("echo", {"text": "x"})
    found = await stand.ask("/admin/agents", token=READ_TOKEN)
    assert [(one["era"], one["verified"], one["clients"]) for one in found["agents"]] == [
        ("modern", False, ["client-2026-07-28 7"]),
        ("legacy", False, ["client-legacy 7"]),
    ]
