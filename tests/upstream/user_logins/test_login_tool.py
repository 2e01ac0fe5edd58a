"""The tool that stands in for those of an upstream while a principal has no login."""

from __future__ import annotations

import json

from gateway_core.config import UpstreamConfig
from gateway_core.config.auth import AuthConfig
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.lists.fetched_lists import FetchedLists, Item
from gateway_core.upstream.requests import Request
from gateway_core.upstream.user_logins.login_tool import is_login_tool, lists_without_login, reply_to_login
from tests.user_login_kit import world

SHARED = FetchedLists({"tool": (Item("tool", "search", b"{}", "a"),), "prompt": ()}, {"tool": Hint(), "prompt": Hint()})


def test_it_stands_beside_the_tools_that_are_known() -> None:
    found = lists_without_login("tracker", SHARED)
    assert [item.name for item in found.of("tool")] == ["search", "tracker_login"]
    assert found.private == SHARED.private
    definition = json.loads(found.of("tool")[1].raw)
    assert definition["inputSchema"]["properties"].keys() == {"code"}
    assert found.other_than(SHARED) == ["tool"]


def test_it_is_the_tool_of_upstreams_whose_users_log_in() -> None:
    config = UpstreamConfig(name="tracker", transport="http", url="http://127.0.0.1:1/mcp")
    assert not is_login_tool(config, "tracker_login")
    users = config.model_copy(update={"auth": AuthConfig(grant="authorization_code", identity="user")})
    assert is_login_tool(users, "tracker_login")
    assert not is_login_tool(users, "search")


def test_it_is_answered_by_the_gateway_once_there_is_a_login() -> None:
    reply = reply_to_login("tracker", Request("tools/call", {"name": "tracker_login"}))
    assert reply is not None
    assert "is logged in at tracker" in json.loads(reply.result)["content"][0]["text"]
    assert reply_to_login("tracker", Request("tools/call", {"name": "search"})) is None
    assert reply_to_login("tracker", Request("prompts/get", {"name": "tracker_login"})) is None


async def test_the_tools_are_there_after_a_login_of_a_user_who_presents_a_key_for_an_upstream() -> None:
    async with world(upstream='forward = { "X-Api-Key" = "header:X-Tracker-Key?" }') as w:
        w.http.headers["X-Tracker-Key"] = "key of ada"
        agent = w.agent("ada")
        assert await agent.tools() == ["tracker_login"]
        await w.logged_in("ada")
        found = await agent.call("search")
        assert "result" in found, found
        assert "tracker_login" not in await agent.tools()
