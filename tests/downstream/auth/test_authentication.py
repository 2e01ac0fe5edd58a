"""Who may use the gateway, over real sockets: credentials are looked at once, refusals are all alike."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from loguru import logger

from gateway_core import AuthenticationEnded, Event, hookimpl
from gateway_core.config import TrustedProxiesConfig
from gateway_core.downstream.auth import authentication, memory
from tests.downstream.auth.keys import ECHO, Keys, bearer, call

CHALLENGE = 'Bearer resource_metadata="http://gw.example/.well-known/oauth-protected-resource", Key'
WAY = ["modern", "legacy"]


@pytest.mark.parametrize("way", WAY)
async def test_a_call_has_the_principal_that_its_credentials_prove(start: Any, helpers: Any, way: str) -> None:
    keys = Keys()
    keys.groups = ["staff"]
    world = await start(authenticators=[keys])
    for headers in (bearer("alice"), {"X-Api-Key": "key-alice"}):
        assert (await call(world, helpers, way, headers)).status == 200
        principal = world.pipeline.exchanges[-1].agent.principal
        assert (principal.id, principal.verified, principal.groups) == ("alice|keys", True, {"staff"})
        assert principal.client_name in {"tester", "modern"}


@pytest.mark.parametrize("way", WAY)
async def test_credentials_are_looked_at_once(start: Any, helpers: Any, way: str) -> None:
    keys = Keys()
    world = await start(authenticators=[keys])
    for _ in range(3):
        async with aiohttp.ClientSession() as world.http:  # a new connection each
            for name in ("alice", "bob"):
                assert (await call(world, helpers, way, bearer(name))).status == 200
    assert [credentials.bearer for credentials in keys.asked] == ["key-alice", "key-bob"]
    assert {credentials.address for credentials in keys.asked} == {"127.0.0.1"}


async def test_many_requests_with_new_credentials_ask_once(start: Any, helpers: Any) -> None:
    keys = Keys()
    world = await start(authenticators=[keys])
    keys.gate.clear()
    calls = [asyncio.create_task(call(world, helpers, "modern", bearer("alice"))) for _ in range(20)]
    while not keys.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    keys.gate.set()
    assert [(await each).status for each in calls] == [200] * 20
    assert len(keys.asked) == 1


async def refusals(world: Any, helpers: Any, headers: dict[str, str]) -> list[Any]:
    """The answers of every address to requests with these headers."""
    given, body = helpers.modern("tools/call", {"name": "echo"})
    session = {"Mcp-Session-Id": "x", "MCP-Protocol-Version": "2025-11-25"}
    answers = [
        await world.post(body, {**given, **headers}),
        await world.post(helpers.initialize(), headers),
        await world.post(ECHO, {**session, **headers}),
        await world.post(b"nonsense", headers),
        await world.post(ECHO, headers, "/messages?session_id=x"),
    ]
    for path, verb in (("/mcp", "GET"), ("/mcp", "DELETE"), ("/sse", "GET"), ("/secret", "GET")):
        every = {"Accept": "text/event-stream", **session, **headers}
        async with world.http.request(verb, world.base + path, headers=every) as response:
            answers.append(type(answers[0])(response.status, response.headers, await response.read()))
    return answers


async def test_every_refusal_is_alike_and_reaches_nothing(start: Any, helpers: Any) -> None:
    world = await start(authenticators=[Keys()], transport="sse")
    alike = set()
    kinds: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer other"},
        {"Authorization": "Basic a2V5LWFsaWNl"},
        {"Authorization": "\u00fc"},
        {"X-Api-Key": "other"},
        bearer("wrong"),
    ]
    for headers in kinds:
        for _ in range(2):  # asked, and remembered
            for answer in await refusals(world, helpers, headers):
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, CHALLENGE)
                alike.add((answer.body, frozenset(set(answer.headers) - {"Date", "Connection"})))
    assert len(alike) == 1
    assert world.pipeline.exchanges == []
    assert len(world.downstream.sessions) == 0


async def test_repeated_credentials_are_none(start: Any, helpers: Any) -> None:
    world = await start(authenticators=[Keys()])
    _, body = helpers.modern("tools/call", {"name": "echo"})
    twice = [("Authorization", "Bearer key-alice"), ("Authorization", "Bearer key-bob")]
    assert b" 401 " in await world.raw_post(body, twice)


async def test_what_is_public_needs_no_credentials(start: Any) -> None:
    world = await start(authenticators=[Keys()])
    for path, text in (("/healthz", "ok"), ("/.well-known/oauth-protected-resource", "http://gw.example/mcp")):
        async with world.http.get(world.base + path) as response:
            assert (response.status, text in await response.text()) == (200, True)
    async with world.http.get(f"{world.base}/.well-known/other") as response:
        assert response.status == 401
    async with world.http.get(world.url, headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}) as response:
        assert response.headers["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("way", WAY)
async def test_a_plugin_that_fails_lets_no_agent_in(start: Any, helpers: Any, way: str) -> None:
    keys = Keys()
    world = await start(authenticators=[keys])
    keys.broken = True
    answer = await call(world, helpers, way, bearer("alice"))
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert world.pipeline.exchanges == []
    keys.broken = False
    assert (await call(world, helpers, way, bearer("alice"))).status == 200


@pytest.mark.parametrize("way", WAY)
async def test_a_verdict_ends_with_what_it_proves(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(authentication, "REFUSED_FOR", 0.05)
    keys = Keys()
    world = await start(authenticators=[keys])
    keys.expires = time.time() + 0.4
    assert (await call(world, helpers, way, bearer("alice"))).status == 200
    keys.revoked.add("alice")
    await asyncio.sleep(0.5)
    assert (await call(world, helpers, way, bearer("alice"))).status == 401
    keys.revoked.clear()
    await asyncio.sleep(0.1)
    assert (await call(world, helpers, way, bearer("alice"))).status == 401, "it has expired"
    keys.expires = None
    await asyncio.sleep(0.1)
    assert (await call(world, helpers, way, bearer("alice"))).status == 200


async def test_a_session_gets_the_rights_of_later_credentials(start: Any, helpers: Any) -> None:
    keys = Keys()
    keys.groups, keys.expires = ["staff"], time.time() + 0.3
    world = await start(authenticators=[keys])
    session = await world.initialize(**bearer("alice"))
    await asyncio.sleep(0.4)
    keys.groups, keys.expires = [], None
    assert (await world.post(ECHO, session)).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.groups == frozenset()


async def test_a_session_belongs_to_the_principal_that_opened_it(start: Any, helpers: Any) -> None:
    world = await start(authenticators=[Keys()])
    mine = await world.initialize(**bearer("alice"))
    answers = []
    for session_id in (mine["Mcp-Session-Id"], "unknown"):
        other = {**mine, **bearer("bob"), "Mcp-Session-Id": session_id}
        answers.append((await world.post(ECHO, other)).body)
        async with world.http.delete(world.url, headers=other) as response:
            assert response.status == 404
    assert answers[0] == answers[1]
    assert (await world.post(ECHO, mine)).status == 200
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as world.http:  # a phone that has changed its network
        assert (await world.post(ECHO, mine)).status == 200


@pytest.mark.parametrize("way", WAY)
async def test_anonymous_agents_are_served_if_the_file_says_so(start: Any, helpers: Any, way: str) -> None:
    keys = Keys()
    world = await start(authenticators=[keys], anonymous=True)
    assert (await call(world, helpers, way, {})).status == 200
    assert not world.pipeline.exchanges[-1].agent.principal.verified
    assert (await call(world, helpers, way, bearer("alice"))).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.verified
    assert (await call(world, helpers, way, bearer("wrong"))).status == 401
    assert (await call(world, helpers, way, {"Authorization": "Bearer other"})).status == 401


@pytest.mark.parametrize("way", WAY)
async def test_people_behind_one_proxy_are_told_apart(start: Any, helpers: Any, way: str) -> None:
    proxy = TrustedProxiesConfig(networks=("127.0.0.1",), identity_header="X-User")
    world = await start(trusted_proxies=proxy)
    for name in ("alice", "bob"):
        assert (await call(world, helpers, way, {"X-User": name, "X-Forwarded-For": "203.0.113.9"})).status == 200
        principal = world.pipeline.exchanges[-1].agent.principal
        assert (principal.id, principal.address) == (f"{name}|proxy", "203.0.113.9")
    assert (await call(world, helpers, way, {"X-Forwarded-For": "203.0.113.9"})).status == 401
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as world.http:
        assert (await call(world, helpers, way, {"X-User": "alice"})).status == 401


async def test_addresses_behind_a_trusted_proxy_have_sessions_of_their_own(start: Any) -> None:
    world = await start(trusted_proxies=TrustedProxiesConfig(networks=("127.0.0.1",)))
    one, two = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (1, 2))
    session = await world.initialize(**one)
    assert (await world.post(ECHO, session)).status == 200
    assert world.pipeline.exchanges[-1].agent.principal.id == "tester@203.0.113.1"
    assert (await world.post(ECHO, {**session, **two})).status == 404


async def test_a_guesser_has_to_wait_and_others_go_on(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REFUSAL_BURST", 5.0)
    monkeypatch.setattr(authentication, "REFUSAL_RATE", 0.001)
    keys = Keys()
    world = await start(authenticators=[keys])
    assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
    found = []
    for number in range(12):
        answer = await call(world, helpers, "modern", {"Authorization": f"Bearer guess-{number}"})
        found.append(answer.status)
    assert set(found[:5]) == {401}
    assert found[-1] == 429
    assert len(keys.asked) < 12
    assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(connector=connector) as world.http:
        assert (await call(world, helpers, "modern", bearer("bob"))).status == 200


async def test_a_guesser_keeps_no_known_credentials_at_its_address_out(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REFUSAL_BURST", 2.0)
    monkeypatch.setattr(authentication, "REFUSAL_RATE", 0.001)
    keys = Keys()
    keys.remember = 0.05
    world = await start(authenticators=[keys])
    assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
    found = [(await call(world, helpers, "modern", bearer("wrong"))).status]
    for number in range(5):
        found.append((await call(world, helpers, "modern", {"Authorization": f"Bearer guess-{number}"})).status)
    assert found[-1] == 429
    monkeypatch.setattr(authentication, "MAX_ASKING", 0)
    for _ in range(3):
        await asyncio.sleep(0.1)  # until what is known of alice has to be asked for again
        asked = len(keys.asked)
        assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
        assert len(keys.asked) == asked + 1
    keys.revoked.add("alice")
    await asyncio.sleep(0.1)
    assert (await call(world, helpers, "modern", bearer("alice"))).status == 401


async def test_what_is_remembered_is_bounded_and_has_no_credentials(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 4)
    world = await start(authenticators=[Keys()])
    app = world.server.http.application
    for number in range(9):
        assert (await call(world, helpers, "modern", bearer(f"n{number}"))).status == 200
    remembered = app._callers._authentication._memory
    assert len(remembered) == 4
    assert all(len(key) == 16 for key in remembered._proofs)


async def test_refused_credentials_do_not_push_accepted_ones_out(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "REMEMBERED", 4)
    world = await start(authenticators=[Keys()])
    assert (await call(world, helpers, "modern", bearer("alice"))).status == 200
    for number in range(9):
        assert (await call(world, helpers, "modern", {"Authorization": f"Bearer guess-{number}"})).status == 401
    monkeypatch.setattr(authentication, "MAX_ASKING", 0)
    assert (await call(world, helpers, "modern", bearer("bob"))).status == 503
    async with aiohttp.ClientSession() as world.http:
        assert (await call(world, helpers, "modern", bearer("alice"))).status == 200


async def test_too_many_questions_at_a_time_are_refused(
    start: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "MAX_ASKING", 2)
    keys = Keys()
    world = await start(authenticators=[keys])
    keys.gate.clear()
    calls = [asyncio.create_task(call(world, helpers, "modern", bearer(name))) for name in ("a", "b")]
    while len(keys.asked) < 2:
        await asyncio.sleep(0.01)
    assert (await call(world, helpers, "modern", bearer("c"))).status == 503
    keys.gate.set()
    assert [(await each).status for each in calls] == [200, 200]


async def test_a_client_that_leaves_takes_nothing_with_it(start: Any, helpers: Any) -> None:
    keys = Keys()
    world = await start(authenticators=[keys])
    keys.gate.clear()
    first = asyncio.create_task(call(world, helpers, "modern", bearer("alice")))
    second = asyncio.create_task(call(world, helpers, "modern", bearer("alice")))
    while not keys.asked:
        await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.wait([first])
    await asyncio.sleep(0.05)
    keys.gate.set()
    assert (await second).status == 200
    assert len(keys.asked) == 1


async def test_the_log_says_why_and_never_the_credentials(start: Any, helpers: Any) -> None:
    records: list[str] = []
    sink = logger.add(lambda message: records.append(str(message).strip()), format="{message}", level="DEBUG")
    keys = Keys()
    keys.revoked.add("bob")
    world = await start(authenticators=[keys])
    await call(world, helpers, "modern", {})
    await call(world, helpers, "modern", {"Authorization": "Bearer hunter2"})
    for name in ("wrong", "bob"):
        await call(world, helpers, "modern", bearer(name))
    logger.remove(sink)
    lines = [line for line in records if "was refused" in line]
    assert lines == [
        "a client at 127.0.0.1 was refused: no plugin recognises its credentials; logged once a minute",
        "a client at 127.0.0.1 was refused: Keys: the key of wrong is revoked; logged once a minute",
    ]
    assert not any("hunter2" in line or "key-wrong" in line for line in records)


async def test_observers_are_told_who_was_proven_and_who_was_refused(start: Any, helpers: Any) -> None:
    seen: list[AuthenticationEnded] = []

    class Diary:
        @hookimpl
        def observe(self, event: Event) -> None:
            assert isinstance(event, AuthenticationEnded)
            seen.append(event)

    world = await start(authenticators=[Keys(), Diary])
    for headers in ({}, bearer("wrong"), bearer("alice"), bearer("alice")):
        await call(world, helpers, "modern", headers)
    told = [(event.address, event.principal and event.principal.id, event.plugin, event.reason) for event in seen]
    assert told == [
        ("127.0.0.1", None, "", "no plugin recognises its credentials"),
        ("127.0.0.1", None, "Keys", "Keys: the key of wrong is revoked"),
        ("127.0.0.1", "alice|keys", "Keys", ""),
    ]


async def test_an_empty_header_is_no_credential(start: Any, helpers: Any) -> None:
    world = await start(authenticators=[Keys()], anonymous=True)
    for headers in ({"Authorization": ""}, {}, {"X-Api-Key": ""}):
        assert (await call(world, helpers, "modern", headers)).status == 200
