"""What one agent sees of the catalog, as operators see it: profile, private lists, and the hooks of lists."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from gateway_core import CallResult, Reject, hookimpl
from gateway_core.hooks import loader
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
