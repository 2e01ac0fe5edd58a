"""What operators ask about one agent: what limits leave it."""

from __future__ import annotations

import asyncio
from typing import Any, Self
from urllib.parse import quote

import pytest

from gateway_core import CallResult, hookimpl
from gateway_core.generations.reloads import RETIRE_INTERVAL
from gateway_core.hooks import loader
from gateway_core.testing import configured
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


class Waits:
    """Waits before each list that operators look at; notes whether its hooks run between its enter and its exit."""

    methods = frozenset({"tools/list"})

    def __init__(self) -> None:
        self.entered = False
        self.after: list[bool] = []
        self.began, self.goes_on = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self.entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered = False

    @hookimpl
    async def before_call(self, call: Any) -> None:
        if call.exchange_id == "control-plane":
            self.began.set()
            await self.goes_on.wait()

    @hookimpl
    def after_call(self, call: Any, result: CallResult) -> None:
        if call.exchange_id == "control-plane":
            self.after.append(self.entered)


async def test_a_reload_leaves_no_plugin_that_operators_look_through(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits()
    monkeypatch.setattr(loader, "load", lambda *_, **__: [configured(waits, name="waits")])
    await stand.start()
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
    path = f"/admin/tool?name=echo&agent={quote(await agent_of(stand), safe='')}"
    looking = asyncio.create_task(stand.ask(path))
    async with asyncio.timeout(60):
        await waits.began.wait()
        monkeypatch.setattr(loader, "load", lambda *_, **__: [])
        stand.write(limits={"page_size": 7})
        assert (await stand.gateway.reload()).generation == 2
        await asyncio.sleep(5 * RETIRE_INTERVAL)
        assert waits.entered
        waits.goes_on.set()
        assert (await looking)["definition"] is not None
        while waits.entered:
            await asyncio.sleep(0.01)
    assert waits.after == [True]
