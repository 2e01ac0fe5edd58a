"""What one agent sees of the catalog, as operators see it: profile, private lists, and the hooks of lists."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

import pytest

from gateway_core import CallResult, Reject, hookimpl
from gateway_core.hooks import loader
from gateway_core.pipeline import seen_lists
from gateway_core.testing import configured
from tests.activity.conftest import Stand, stand

__all__ = ["stand"]
pytestmark = pytest.mark.timeout(180)
RULES = [
    {"tools": ["grumble"], "then": "deny"},
    {"tools": ["fail"], "principals": ["*@10.0.0.0"], "then": "allow"},
    {"tools": ["fail"], "then": "deny"},
    {"then": "allow"},
]


async def agent_of(stand: Stand, tool: str = "echo") -> str:
    """The id of an agent that has called a tool and listed tools, as the control plane knows it."""
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.list_tools()
        await client.call_tool(tool, {"text": "x"})
    (call, *_) = (await stand.ask("/admin/calls/recent"))["calls"]
    return str(call["agent"])


async def tools_of(stand: Stand, agent: str, status: int = 200) -> Any:
    return await stand.ask(f"/admin/tools?agent={quote(agent, safe='')}", status=status)


async def test_what_an_agent_sees_is_what_its_own_list_has_policy_included(stand: Stand) -> None:
    await stand.start(plugins=[{"name": "security_policy", "rules": RULES}])
    agent = await agent_of(stand)
    async with stand.client() as client:
        listed = [tool.name for tool in (await client.list_tools()).tools]
    everything = await stand.ask("/admin/tools")
    found = await tools_of(stand, agent)
    assert [one["name"] for one in found["tools"]] == listed == ["echo", "wait"]
    assert len(everything["tools"]) == 4
    assert [one["upstreams"] for one in found["tools"]] == [["desk"], ["desk"]]
    one = await stand.ask(f"/admin/tool?name=echo&agent={quote(agent, safe='')}")
    assert one["definition"]["description"] == "Say it again."
    hidden = await stand.ask(f"/admin/tool?name=grumble&agent={quote(agent, safe='')}")
    assert (hidden["definition"], hidden["upstreams"]) == (None, [])


async def test_to_look_at_an_agent_leaves_no_call_and_no_line(stand: Stand) -> None:
    await stand.start(plugins=[{"name": "security_policy", "rules": RULES}])
    agent = await agent_of(stand)
    before = await stand.ask("/admin/calls/recent")
    await tools_of(stand, agent)
    after = await stand.ask("/admin/calls/recent")
    assert after["calls"] == before["calls"]


class Closed:
    """Refuses the lists of prompts, and shortens descriptions."""

    methods = frozenset({"tools/list", "prompts/list"})

    @hookimpl
    def before_call(self, call: Any) -> Reject | None:
        return Reject("no prompts today") if call.method == "prompts/list" else None

    @hookimpl
    def after_call(self, call: Any, result: CallResult) -> CallResult | None:
        if call.method != "tools/list":
            return None
        tools = [{**tool, "description": "short"} for tool in result.content["tools"] if tool["name"] in call.listed]
        return result.replace({**result.content, "tools": tools[:1]})


async def test_any_plugin_that_filters_lists_counts_and_a_refusal_is_named(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "load", lambda *_, **__: [configured(Closed, name="closed")])
    await stand.start()
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
    (call, *_) = (await stand.ask("/admin/calls/recent"))["calls"]
    found = await tools_of(stand, call["agent"])
    assert [(one["name"], one["description"]) for one in found["tools"]] == [("echo", "short")]
    assert "prompts/list: no prompts today" in found["notes"]


async def test_all_pages_are_read(stand: Stand) -> None:
    await stand.start(limits={"page_size": 1}, plugins=[{"name": "security_policy", "rules": RULES}])
    agent = await agent_of(stand)
    assert [one["name"] for one in (await tools_of(stand, agent))["tools"]] == ["echo", "wait"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/admin/tools?agent=nobody", 404, "no agent 'nobody' is here"),
        ("/admin/tool?name=echo&agent=nobody", 404, "no agent 'nobody' is here"),
        ("/admin/tools?agent=nobody&profile=p", 409, "give either the agent or a profile"),
        ("/admin/tool?name=echo&agent=nobody&profile=p", 409, "give either the agent or a profile"),
    ],
)
async def test_an_agent_that_is_not_known_is_an_error(stand: Stand, path: str, status: int, words: str) -> None:
    await stand.start(plugins=[])
    assert words in (await stand.ask(path, status=status))["error"]


async def test_an_agent_in_a_profile_sees_that_profile(stand: Stand) -> None:
    await stand.start(plugins=[], profiles=[{"name": "small", "default": True, "tools": ["echo"]}])
    async with stand.client(mode="legacy") as client:
        await client.list_tools()
        (session,) = (await stand.ask("/admin/sessions"))["sessions"]
        assert session["profile"] == "small"
        found = await tools_of(stand, session["agent"])
    assert [one["name"] for one in found["tools"]] == ["echo"]


# What the plugins see


LOOK = "control-plane"
"""The id of the exchange of calls that look at an agent."""


async def started(stand: Stand, monkeypatch: pytest.MonkeyPatch, *plugins: object, **settings: Any) -> str:
    """Start a gateway with these plugins; the id of an agent that has called a tool."""
    loaded = [configured(it, name=type(it).__name__.lower()) for it in plugins]
    monkeypatch.setattr(loader, "load", lambda *_, **__: loaded)
    await stand.start(**settings)
    await stand.ask("/admin/calls/recent")
    async with stand.client() as client:
        await client.call_tool("echo", {"text": "x"})
    (call, *_) = (await stand.ask("/admin/calls/recent"))["calls"]
    return str(call["agent"])


async def tool_of(stand: Stand, agent: str, name: str = "echo") -> Any:
    return await stand.ask(f"/admin/tool?name={name}&agent={quote(agent, safe='')}")


class Counts:
    """Notes the method of each page before it, and the outcome after it."""

    methods = frozenset({"tools/list", "prompts/list"})

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[tuple[str, str]] = []

    @hookimpl
    def before_call(self, call: Any) -> None:
        if call.exchange_id == LOOK:
            self.before.append(call.method)

    @hookimpl
    def after_call(self, call: Any, result: CallResult) -> None:
        if call.exchange_id == LOOK:
            self.after.append((call.method, str(result.outcome)))


class Stuck:
    methods = frozenset({"tools/list"})

    @hookimpl
    async def before_call(self, call: Any) -> None:
        if call.exchange_id == LOOK:
            await asyncio.Event().wait()


async def test_after_call_follows_also_if_the_time_has_passed(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    agent = await started(stand, monkeypatch, counts, Stuck())
    monkeypatch.setattr(seen_lists, "MAX_SECONDS", 2.0)
    found = await tools_of(stand, agent)
    assert counts.before == ["tools/list", "prompts/list"]
    assert counts.after == [("tools/list", "cancelled"), ("prompts/list", "ok")]
    assert found["notes"] == ["tools/list: the plugins did not decide in time"]
    one = await tool_of(stand, agent)
    assert (one["definition"], one["notes"]) == (None, found["notes"])


async def test_for_one_tool_only_the_list_of_tools_is_read(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    agent = await started(stand, monkeypatch, counts)
    assert (await tool_of(stand, agent))["notes"] == []
    assert counts.before == ["tools/list"]


class Busy:
    """Never lets another task run."""

    methods = frozenset({"tools/list"})

    @hookimpl
    def before_call(self, call: Any) -> None:
        if call.exchange_id == LOOK:
            time.sleep(0.2)


async def test_the_time_passes_between_pages_if_no_hook_waits(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await started(stand, monkeypatch, Busy(), limits={"page_size": 1})
    monkeypatch.setattr(seen_lists, "MAX_SECONDS", 0.6)
    found = await tools_of(stand, agent)
    assert "tools/list: the plugins did not decide in time" in found["notes"]
    assert 1 <= len(found["tools"]) < 4


class Tenants:
    """Lists nothing to a request without its header."""

    call_headers = ("x-tenant", "x-team")
    methods = frozenset({"tools/list"})

    @hookimpl
    def before_call(self, call: Any) -> Reject | None:
        return Reject("no tenant") if call.exchange_id == LOOK and not call.headers else None


class CallsAlone:
    """Sees headers, but no list."""

    call_headers = ("x-team",)

    @hookimpl
    def before_call(self, call: Any) -> None: ...


async def test_a_plugin_that_sees_headers_of_lists_is_named(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await started(stand, monkeypatch, Tenants(), CallsAlone())
    remark = "the plugin tenants got no headers (x-tenant, x-team): with them the lists may differ"
    expected = [remark, "tools/list: no tenant"]
    assert (await tools_of(stand, agent))["notes"] == expected
    assert (await tool_of(stand, agent))["notes"] == expected
