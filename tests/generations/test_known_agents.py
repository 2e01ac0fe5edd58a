"""What operators ask about one agent: what limits leave it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.activity.conftest import Stand, stand

__all__ = ["stand"]
pytestmark = pytest.mark.timeout(180)


async def agent_of(stand: Stand) -> str:
    """The id of the agent of the last call."""
    (call, *_) = (await stand.ask("/admin/calls/recent"))["calls"]
    return str(call["agent"])


async def limits_of(stand: Stand, agent: str, status: int = 200) -> Any:
    return await stand.ask(f"/admin/limits?agent={quote(agent, safe='')}", status=status)


async def test_the_limits_left_are_those_of_each_tool_and_what_the_refusal_says(stand: Stand) -> None:
    await stand.start(plugins=[{"name": "security_ratelimit", "rate_limit_per_minute": 3}])
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
        for _ in range(3):
            await client.call_tool("grumble", {"text": "x"})
        with pytest.raises(Exception, match="Rate limit exceeded") as refused:
            await client.call_tool("grumble", {"text": "x"})
    agent = await agent_of(stand)
    found = await limits_of(stand, agent)
    left = {one["what"]: (one["remaining"], one["limit"], one["per"], one["of"]) for one in found["limits"]}
    assert left == {
        "echo": (2, 3, "minute", "agent"),
        "grumble": (0, 3, "minute", "agent"),
        "each other tool": (3, 3, "minute", "agent"),
    }
    error: Any = refused.value
    (of_refusal,) = error.error.data["limits"]
    assert (of_refusal["remaining"], of_refusal["limit"]) == left["grumble"][:2]
    waits = {one["what"]: one["wait"] for one in found["limits"]}
    assert 0 < waits["grumble"] <= 20
    assert waits["echo"] == 0
    assert (found["agent"], found["verified"], found["problems"]) == (agent, False, [])
    assert {one["plugin"] for one in found["limits"]} == {"security_ratelimit"}


async def test_an_agent_with_a_session_is_known_before_its_first_call(stand: Stand) -> None:
    await stand.start(plugins=[{"name": "security_ratelimit", "rate_limit_per_minute": 7}])
    async with stand.client(mode="legacy"):
        (session,) = (await stand.ask("/admin/sessions"))["sessions"]
        found = await limits_of(stand, session["agent"])
    assert [(one["what"], one["remaining"]) for one in found["limits"]] == [("each other tool", 7)]
