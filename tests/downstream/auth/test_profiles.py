"""Which profile a caller gets, and over HTTP, what becomes of the others."""

import asyncio
import json
from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.config import ProfileConfig
from gateway_core.downstream.auth.caller import Caller, caller_at
from gateway_core.downstream.auth.profiles import ProfileChoice, default_profile
from gateway_core.http1.head import HttpError
from tests.downstream.auth.keys import ECHO, Keys, bearer

NOBODY = caller_at("10.0.0.1")


def caller(**members: Any) -> Caller:
    return Caller("10.0.0.1", Principal.proven("alice", issuer="keys", **members))


def choice(*profiles: dict[str, Any]) -> ProfileChoice:
    return ProfileChoice([ProfileConfig(**profile) for profile in profiles])


OPEN = {"name": "open"}
CLOSED = {"name": "closed", "by_address": False}
STAFF = {"name": "staff", "groups": ("staff", "admins")}
RED = {"name": "red", "claims": {"team": "red", "level": "2"}}
BOTH = {"name": "both", "groups": ("staff",), "claims": {"team": "red"}}
REST = {"name": "rest", "default": True}


@pytest.mark.parametrize(
    ("profiles", "who", "named", "found"),
    [
        ([], NOBODY, None, ""),
        ([], caller(claims={"profile": "x"}), None, ""),  # without profiles it is a claim like any other
        ([OPEN], NOBODY, None, ""),
        ([OPEN], NOBODY, "open", "open"),
        ([OPEN, REST], NOBODY, None, "rest"),
        ([OPEN, REST], NOBODY, "open", "open"),
        ([STAFF, RED, REST], caller(groups=["admins"]), None, "staff"),
        ([STAFF, RED, REST], caller(groups=["other"]), None, "rest"),
        ([STAFF, RED], caller(groups=["other"]), None, ""),
        ([STAFF, RED], caller(claims={"team": "red", "level": "2"}), None, "red"),
        ([STAFF, RED], caller(claims={"team": ["blue", "red"], "level": "2"}), None, "red"),
        ([STAFF, RED], caller(claims={"team": "red"}), None, ""),
        ([STAFF, RED], caller(groups=["staff"], claims={"team": "red", "level": "2"}), None, "staff"),  # the first
        ([RED, STAFF], caller(groups=["staff"], claims={"team": "red", "level": "2"}), None, "red"),
        ([STAFF, OPEN], caller(groups=["staff"]), "open", "open"),  # the address precedes the group
        ([BOTH, STAFF], caller(groups=["staff"]), None, "staff"),
        ([CLOSED, OPEN], caller(claims={"profile": "closed"}), None, "closed"),
        ([CLOSED, OPEN], caller(claims={"profile": "closed"}), "closed", "closed"),
        ([STAFF, OPEN], caller(claims={"profile": "staff"}), None, "staff"),  # the binding needs no group
        ([STAFF, OPEN], caller(groups=["staff"], claims={"profile": "open"}), None, "open"),
    ],
)
def test_the_first_rule_that_applies_decides(
    profiles: list[dict[str, Any]], who: Caller, named: str | None, found: str
) -> None:
    chosen = choice(*profiles)
    placed = chosen.place(who, named)
    assert placed.profile == found
    assert (placed.principal, placed.address) == (who.principal, who.address)
    assert chosen.place(who, named) is placed, "agents keep what they have for this object"


@pytest.mark.parametrize(
    ("who", "named", "status"),
    [
        (NOBODY, "none", 404),
        (NOBODY, "closed", 404),
        (NOBODY, "staff", 404),
        (caller(groups=["other"]), "staff", 404),
        (caller(claims={"team": "red"}), "red", 404),
        (caller(claims={"profile": "open"}), "rest", 404),
        (caller(claims={"profile": "open"}), "none", 404),
        (caller(claims={"profile": "none"}), None, 403),
        (caller(claims={"profile": "none"}), "open", 403),
        (caller(claims={"profile": ""}), None, 403),
        (caller(claims={"profile": ["open"]}), None, 403),
    ],
)
def test_what_a_caller_may_not_use_looks_as_if_it_did_not_exist(who: Caller, named: str | None, status: int) -> None:
    with pytest.raises(HttpError) as refused:
        choice(OPEN, CLOSED, STAFF, RED, REST).place(who, named)
    assert refused.value.status == status
    if status == 404:
        assert refused.value.message == "no such profile"


def test_the_default_profile_is_the_one_that_says_so() -> None:
    assert default_profile([]) == ""
    assert default_profile([ProfileConfig(**OPEN), ProfileConfig(**REST)]) == "rest"


PROFILES = (ProfileConfig(name="one"), ProfileConfig(name="two"), ProfileConfig(**STAFF))


@pytest.mark.parametrize("path", ["/mcp/p/one", "/mcp/p/one/"])
async def test_the_address_of_a_profile_serves_both_eras(start: Any, helpers: Any, path: str) -> None:
    world = await start(profiles=PROFILES)
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    assert (await world.post(body, headers, path)).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.profile == "one"
    answer = await world.post(helpers.initialize(), {}, path)
    session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
    assert (await world.post(ECHO, session, path)).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.profile == "one"
    assert (await world.post(body, headers)).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.profile == ""


async def test_a_session_belongs_to_its_profile(start: Any, helpers: Any) -> None:
    world = await start(profiles=PROFILES)
    answer = await world.post(helpers.initialize(), {}, "/mcp/p/one")
    session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
    for other in ("/mcp", "/mcp/p/two"):
        assert (await world.post(ECHO, session, other)).status == 404
        async with world.http.delete(world.base + other, headers=session) as response:
            assert response.status == 404
        async with world.http.get(world.base + other, headers={**session, "Accept": "text/event-stream"}) as response:
            assert response.status == 404
    assert (await world.post(ECHO, session, "/mcp/p/one")).status == 200


async def test_credentials_are_judged_before_the_profile(start: Any, helpers: Any) -> None:
    keys = Keys()
    world = await start(authenticators=[keys], profiles=PROFILES)
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    for path in ("/mcp/p/one", "/mcp/p/none"):
        assert (await world.post(body, headers, path)).status == 401
    for _ in range(2):  # unknown credentials, then known ones
        for path, status in (("/mcp/p/one", 200), ("/mcp/p/none", 404), ("/mcp/p/staff", 404)):
            answer = await world.post(body, {**headers, **bearer("alice")}, path)
            assert answer.status == status
        assert answer.json["error"]["message"] == "no such profile"
    keys.groups = ["staff"]
    assert (await world.post(body, {**headers, **bearer("bob")})).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.profile == "staff"


async def test_without_profiles_their_addresses_are_no_endpoints(start: Any, helpers: Any) -> None:
    world = await start()
    headers, body = helpers.modern("tools/call", {"name": "echo"})
    answer = await world.post(body, headers, "/mcp/p/one")
    assert answer.status == 404
    assert "the MCP endpoint is /mcp" in json.loads(answer.body)["error"]


async def test_web_pages_and_people_reach_the_address(start: Any) -> None:
    world = await start(profiles=PROFILES)
    asks = {"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}
    async with world.http.options(f"{world.base}/mcp/p/one", headers=asks) as response:
        assert response.status == 204
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
    async with world.http.get(f"{world.base}/mcp/p/one", headers={"Accept": "text/html"}) as response:
        assert f"<pre>{world.base}/mcp/p/one</pre>" in await response.text()


async def test_the_older_transport_has_the_address_as_well(start: Any, helpers: Any) -> None:
    world = await start(profiles=PROFILES, transport="sse")
    async with world.http.get(f"{world.base}/sse/p/one", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status == 200
        lines = [(await stream.content.readline()).decode().strip() for _ in range(2)]
        endpoint = next(line.removeprefix("data: ") for line in lines if line.startswith("data:"))
        assert endpoint.startswith("../../messages/p/one?session_id=")
        path = endpoint.removeprefix("../..")
        assert (await world.post(helpers.initialize(), {}, path)).status == 202
        assert (await world.post(helpers.initialize(), {}, path.replace("/p/one", ""))).status == 404
        assert (await world.post(helpers.initialize(), {}, path.replace("/p/one", "/p/two"))).status == 404


@pytest.mark.parametrize(
    ("profiles", "members", "found"),
    [
        ([STAFF, OPEN], {}, None),
        ([STAFF, OPEN], {"groups": ["staff"]}, "staff"),
        ([CLOSED, OPEN], {}, None),
        ([OPEN, STAFF], {}, "open"),
        ([REST, STAFF], {}, "rest"),
        ([RED, OPEN], {"team": "red"}, None),
        ([RED, OPEN], {"team": "red", "level": "2"}, "red"),
    ],
)
def test_a_token_chooses_only_a_profile_that_its_principal_may_use(
    profiles: list[dict[str, Any]], members: dict[str, Any], found: str | None
) -> None:
    name = profiles[0]["name"]
    groups = members.get("groups", ())
    claims = {"profile": name, **{key: value for key, value in members.items() if key != "groups"}}
    who = Caller(
        "10.0.0.1", Principal.proven("alice", issuer="https://login.example.com", groups=groups, claims=claims)
    )
    key = Caller("10.0.0.1", Principal.proven("alice", issuer="auth_apikey", groups=groups, claims=claims))
    assert choice(*profiles).place(key, None).profile == name
    if found is None:
        with pytest.raises(HttpError) as caught:
            choice(*profiles).place(who, None)
        assert caught.value.status == 403
    else:
        assert choice(*profiles).place(who, None).profile == found


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_agents_hear_only_of_changes_in_their_profile(start: Any, helpers: Any, era: str) -> None:
    world = await start(profiles=PROFILES)
    seen = {"": {"tools", "prompts"}, "one": {"prompts"}}
    world.catalog.changed_in = lambda profile, kinds: frozenset(seen[profile]) & kinds
    for path, expected in (("/mcp", ["tools", "prompts"]), ("/mcp/p/one", ["prompts"])):
        if era == "modern":
            wanted = {"toolsListChanged": True, "promptsListChanged": True}
            headers, body = helpers.modern("subscriptions/listen", {"notifications": wanted})
            accept = {"Accept": "text/event-stream, application/json"}
            opening = world.http.post(world.base + path, json=body, headers={**headers, **accept})
        else:
            answer = await world.post(helpers.initialize(), {}, path)
            session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"], "MCP-Protocol-Version": "2025-11-25"}
            await world.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session, path)
            opening = world.http.get(world.base + path, headers={**session, "Accept": "text/event-stream"})
        async with opening as stream:
            assert stream.status == 200
            if era == "modern":
                await message_of(stream)  # the acknowledgement
            world.catalog.change("tools", "resources")
            world.catalog.change("prompts")
            for kind in expected:
                assert (await message_of(stream))["method"] == f"notifications/{kind}/list_changed"


async def message_of(stream: Any) -> Any:
    """The next message on an event stream."""
    async with asyncio.timeout(20):
        while True:
            line = (await stream.content.readline()).decode().strip()
            if line.startswith("data:") and len(line) > len("data: "):
                return json.loads(line.removeprefix("data:"))
