"""What a policy denies to a principal does not exist for it: in lists, under any name, in subscriptions, in both eras.

Alice may use everything, Bob a part of one of two servers that offer the same names.
"""

import json
from typing import Any

import pytest

from tests.conformance.test_principals import modern, session_of
from tests.downstream.auth.keys import Keys, bearer

POLICY = """
[[mcp.proxy.plugins]]
name = "security_policy"

[[mcp.proxy.plugins.rules]]
principals = ["alice"]
then = "allow"

[[mcp.proxy.plugins.rules]]
tools = ["forever"]
then = "deny"
reason = "forever is too long"

[[mcp.proxy.plugins.rules]]
upstreams = ["lab1"]
tools = ["*echo"]
resources = ["memo://lab1/*"]
then = "allow"

[[mcp.proxy.plugins]]
name = "conflict_autoprefix"
"""
LISTS = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
BOBS = {
    "tools/list": ["lab1__echo"],
    "prompts/list": [],
    "resources/list": ["memo://lab1/today"],
    "resources/templates/list": ["memo://lab1/{day}/note"],
}
DENIED: list[tuple[str, Any, str]] = [
    *(
        ("tools/call", {"name": name, "arguments": {}}, name)
        for name in ("echo", "lab0:echo", "lab1:route", "lab1__route", "lab1:hidden")
    ),
    ("prompts/get", {"name": "brief", "arguments": {"topic": "x"}}, "brief"),
    ("prompts/get", {"name": "lab1:brief", "arguments": {"topic": "x"}}, "lab1:brief"),
    ("resources/read", {"uri": "memo://lab0/today"}, "memo://lab0/today"),
    ("resources/read", {"uri": "memo://lab0/monday/note"}, "memo://lab0/monday/note"),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "brief"}, "argument": {"name": "topic", "value": ""}},
        "brief",
    ),
]
ALLOWED: list[tuple[str, Any]] = [
    ("tools/call", {"name": "lab1__echo", "arguments": {"text": "hi"}}),
    ("tools/call", {"name": "lab1:echo", "arguments": {"text": "hi"}}),
    ("resources/read", {"uri": "memo://lab1/today"}),
    ("resources/read", {"uri": "memo://lab1/monday/note"}),
]


class Agent:
    """An agent of one era, with the key of a principal."""

    def __init__(self, stand: Any, msg: Any, name: str, session: dict[str, str] | None) -> None:
        self._stand, self._msg, self._name, self._session = stand, msg, name, session

    async def ask(self, method: str, params: Any = None) -> Any:
        if self._session is None:
            return (await modern(self._stand, self._name, method, params)).json
        return (await self._stand.send("POST", self._session, self._msg.legacy(method, params))).json


@pytest.fixture(params=["legacy", "modern"])
async def agents(request: Any, start: Any, msg: Any) -> Any:
    """`await agents("bob")`, and the gateway."""
    stand = await start("legacy", "modern", plugins=[Keys()], proxy=POLICY)

    async def agent(name: str) -> Agent:
        return Agent(stand, msg, name, await session_of(stand, name) if request.param == "legacy" else None)

    return agent, stand


async def test_each_list_shows_what_its_principal_may_use(agents: Any) -> None:
    agent, _ = agents
    alice, bob = await agent("alice"), await agent("bob")
    for method, (key, name) in LISTS.items():
        lists = [(await one.ask(method))["result"][key] for one in (alice, bob)]
        of_alice, of_bob = ([entry[name] for entry in entries] for entries in lists)
        assert of_bob == BOBS[method]
        assert set(of_bob) < set(of_alice)
        assert len(of_alice) >= 2


async def test_what_is_denied_looks_as_if_it_did_not_exist(agents: Any) -> None:
    agent, stand = agents
    bob = await agent("bob")
    for method, params, name in DENIED:
        denied = await bob.ask(method, params)
        missing = await bob.ask(method, json.loads(json.dumps(params).replace(f'"{name}"', '"made-up"')))
        shown = json.dumps(denied["error"]).replace(name, "made-up")
        assert json.loads(shown) == missing["error"], method
    asked = {seen.method for lab in stand.labs.values() for seen in lab.seen}
    assert asked.isdisjoint(method for method, _, _ in DENIED), "no server was asked"
    refused = (await bob.ask("tools/call", {"name": "lab1:forever", "arguments": {}}))["error"]
    assert (refused["code"], refused["message"]) == (-31003, "forever is too long")


async def test_what_is_allowed_works(agents: Any) -> None:
    agent, _ = agents
    bob = await agent("bob")
    for method, params in ALLOWED:
        assert "result" in await bob.ask(method, params), params
    alice = await agent("alice")
    for method, params, name in DENIED:
        if name != "lab1:hidden":
            assert "result" in await alice.ask(method, params), params


async def test_a_legacy_subscription_to_what_is_denied_looks_like_one_to_nothing(start: Any, msg: Any) -> None:
    stand = await start("legacy", "modern", plugins=[Keys()], proxy=POLICY)
    bob = Agent(stand, msg, "bob", await session_of(stand, "bob"))
    uris = ("memo://lab0/today", "made-up")
    denied, missing = [(await bob.ask("resources/subscribe", {"uri": uri}))["error"] for uri in uris]
    assert json.loads(json.dumps(denied).replace("memo://lab0/today", "made-up")) == missing
    assert "result" in await bob.ask("resources/subscribe", {"uri": "memo://lab1/today"})


async def test_a_modern_subscription_is_acknowledged_for_what_is_allowed(start: Any, msg: Any) -> None:
    stand = await start("legacy", "modern", plugins=[Keys()], proxy=POLICY)
    wanted = {"resourceSubscriptions": ["memo://lab0/today", "memo://lab1/today", "made-up"], "toolsListChanged": True}
    headers, body = msg.modern("subscriptions/listen", {"notifications": wanted})
    async with stand.stream("POST", {**headers, **bearer("bob")}, body) as events:
        acknowledged = await events.message()
    assert acknowledged["params"]["notifications"] == {
        "toolsListChanged": True,
        "resourceSubscriptions": ["memo://lab1/today"],
    }
