"""People log in at an upstream for themselves, asked by the gateway during a call."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from msgspec.structs import replace

from gateway_core.upstream.auth.logins import GATEWAY, Login
from gateway_core.upstream.auth.logins import Client as OAuthClient
from tests.user_login_kit import (
    URL_AND_FORM,
    URL_ONLY,
    USER,
    World,
    code_in,
    text_of,
    tracker_served,
    url_of,
    world,
)

LEGACY = "legacy"
MODERN = "2026-07-28"
URI = "file:///a#upstream=tracker"


@pytest.fixture
async def there() -> AsyncIterator[World]:
    async with world() as found:
        yield found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


class Person:
    """The user of an official client: opens the page of a login in a browser, and enters the code that it shows."""

    def __init__(self, there: World, name: str, *, action: str = "accept", proves: bool = True) -> None:
        self.there, self.name, self.action = there, name, action
        self.browser = there.browser(name if proves else "")
        self.asked: list[Any] = []
        self.answers = True
        self.pages: list[str] = []
        self.code = ""

    async def __call__(self, _: Any, params: Any) -> types.ElicitResult:
        self.asked.append(params)
        if self.action != "accept":
            return types.ElicitResult(action=self.action)  # type: ignore[arg-type]
        if params.mode == "url":
            self.there.tracker.person = self.name
            self.pages.append((await self.browser.log_in(params.url))[1])
            if not self.answers:
                await asyncio.Event().wait()
            return types.ElicitResult(action="accept")
        return types.ElicitResult(action="accept", content={"code": self.code or code_in(self.pages[-1])})


@asynccontextmanager
async def client_of(person: Person | None, there: World, mode: str, name: str = "ada", **options: Any) -> Any:
    async with (
        httpx2.AsyncClient(headers={USER: name}, timeout=60) as http,
        Client(
            streamable_http_client(f"{there.base}/mcp", http_client=http),
            mode=mode,  # type: ignore[arg-type]
            elicitation_callback=person,
            read_timeout_seconds=60,
            **options,
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_the_call_of_an_official_client_goes_on_after_the_login(there: World, mode: str) -> None:
    person = Person(there, "ada")
    async with client_of(person, there, mode) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["tracker_login"]
        found = await client.call_tool("tracker:search", {})
        assert found.content[0].text == "you are ada"
        assert [tool.name for tool in (await client.list_tools()).tools] == ["search"]
        assert (await client.call_tool("search", {})).content[0].text == "you are ada"
    assert len(person.asked) == 1
    assert person.asked[0].url.startswith(f"{there.base}/oauth/start/")
    assert "ada" not in person.asked[0].url
    assert "You are logged in" in person.pages[0]


async def test_a_legacy_call_goes_on_without_an_answer_and_the_client_is_told(there: World) -> None:
    person, told = Person(there, "ada"), []
    person.answers = False

    async def on_message(message: Any) -> None:
        told.append(message)

    async with client_of(person, there, LEGACY, message_handler=on_message) as client:
        assert (await client.call_tool("tracker:search", {})).content[0].text == "you are ada"
        await until(lambda: any(isinstance(it, types.ElicitCompleteNotification) for it in told))
    (notice,) = [it for it in told if isinstance(it, types.ElicitCompleteNotification)]
    assert notice.params.elicitation_id == person.asked[0].elicitation_id


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_call_whose_user_declines_is_not_executed(there: World, mode: str, action: str) -> None:
    person = Person(there, "ada", action=action)
    async with client_of(person, there, mode) as client:
        with pytest.raises(MCPError, match="a login is needed, and the user") as refused:
            await client.call_tool("tracker:search", {})
    assert "not executed" in str(refused.value)
    assert [method for method, _ in there.tracker.calls if method == "tools/call"] == []


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_a_browser_that_proves_nothing_is_confirmed_by_a_code(there: World, mode: str) -> None:
    person = Person(there, "ada", proves=False)
    async with client_of(person, there, mode) as client:
        assert (await client.call_tool("tracker:search", {})).content[0].text == "you are ada"
    assert [it.mode for it in person.asked] == ["url", "form"]
    assert "One more step" in person.pages[0]


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_a_wrong_code_gives_no_login(there: World, mode: str) -> None:
    person = Person(there, "ada", proves=False)
    person.code = "BBBB-BBBB"
    async with client_of(person, there, mode) as client:
        found = await client.call_tool("tracker:search", {})
    assert found.is_error
    assert "5 wrong codes were given" in found.content[0].text
    assert "That was not the code" in person.asked[-1].message
    assert there.gateway._logins.at("tracker") == {}
    await until(lambda: len(there.tracker.revoked) == 2)


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
@pytest.mark.parametrize("method", ["tool", "prompt", "resource"])
async def test_an_agent_that_cannot_be_asked_gets_the_address_in_words(there: World, mode: str, method: str) -> None:
    async with client_of(None, there, mode) as client:

        async def attempt() -> str:
            if method == "tool":
                found = await client.call_tool("tracker:search", {})
                return str(found.content[0].text)
            asking = client.get_prompt("tracker:greet") if method == "prompt" else client.read_resource(URI)
            with pytest.raises(MCPError) as refused:
                await asking
            return str(refused.value)

        text = await attempt()
        if method == "resource":
            assert "not found" in text, "no upstream is known to have resources"
            return
        assert "Not executed: the user has to log in at upstream tracker, there is no login" in text
        url = re.search(r"http://\S+/oauth/start/[\w-]+", text)
        assert url is not None, text
        there.tracker.person = "ada"
        status, page = await there.browser("ada").log_in(url[0])
        assert (status, "You are logged in" in page) == (200, True)
        if method == "tool":
            assert await attempt() == "you are ada"


async def test_an_agent_without_forms_brings_the_code_with_the_login_tool(there: World) -> None:
    there.tracker.person = "ada"
    ada = there.agent("ada", URL_ONLY)
    asked = await ada.call("tracker_login")
    _, page = await there.browser().log_in(url_of(asked))
    there.called = "tracker_login"
    told = text_of(await ada.answered(asked))
    assert "call the tool tracker_login with that code" in told
    mallory = there.agent("mallory", URL_ONLY)
    assert "inputRequests" in (await mallory.call("tracker_login", {"code": code_in(page)}))["result"]
    assert "code is wrong" in text_of(await ada.call("tracker_login", {"code": "BBBB-BBBB"}))
    assert "is logged in at tracker" in text_of(await ada.call("tracker_login", {"code": code_in(page).lower()}))
    assert text_of(await ada.call()) == "you are ada"
    assert set(there.gateway._logins.at("tracker")) == {"ada|proxy"}


async def test_a_victim_does_not_log_in_for_an_attacker(there: World) -> None:
    """Client/elicitation, Phishing: Alice sends her address, or that of the authorization server, to Bob."""
    alice = there.agent("alice", URL_AND_FORM)
    url = url_of(await alice.call("tracker_login"))
    there.tracker.person = "bob"
    status, page, _ = await there.browser("bob").open(url)
    assert (status, "belongs to another person" in page) == (403, True)
    status, page, _ = await there.browser("bob").open(url, "POST")
    assert status == 403
    assert there.tracker.redirects == []
    async with there.http.post(url, headers={USER: "alice"}, allow_redirects=False) as answer:
        onward = answer.headers["Location"]
    status, page, _ = await there.browser("bob").open(onward)
    assert (status, "belongs to another person" in page) == (403, True)
    assert there.tracker.issued == 0, "the code is not exchanged"
    _, page, _ = await there.browser().open(onward)
    assert "Do not give it to another person" in page, "without credentials, Bob would have to give her the code"
    assert there.gateway._logins.at("tracker") == {}


async def test_calls_of_one_principal_share_one_login(there: World) -> None:
    ada = there.agent("ada", URL_AND_FORM)
    asked = await asyncio.gather(*(ada.call("tracker:search") for _ in range(5)))
    assert len({url_of(it) for it in asked}) == 1
    there.called = "tracker:search"
    waiting = [asyncio.create_task(ada.answered(it)) for it in asked]
    there.tracker.person = "ada"
    await there.browser("ada").log_in(url_of(asked[0]))
    assert [text_of(await it) for it in waiting] == ["you are ada"] * 5
    assert there.tracker.issued == 1


async def test_two_principals_have_logins_of_their_own_and_one_loses_exactly_its_own(there: World) -> None:
    ada, bob = await there.logged_in("ada"), await there.logged_in("bob")
    assert [text_of(await it.call()) for it in (ada, bob)] == ["you are ada", "you are bob"]
    assert there.tracker.registered == 1, "one client serves all"
    for token in [token for token, who in there.tracker.people.items() if who == "ada"]:
        there.tracker.valid.discard(token)
        there.tracker.refresh.discard(token)
    asked = await ada.call()
    assert asked["result"]["resultType"] == "input_required", "her login has ended"
    assert await ada.tools() == ["tracker_login"]
    assert text_of(await bob.call()) == "you are bob"
    assert await bob.tools() == ["search"]
    there.tracker.person = "ada"
    await there.browser("ada").log_in(url_of(asked))
    assert text_of(await ada.call()) == "you are ada"


async def test_only_the_principal_that_logged_in_is_told_of_new_lists(there: World) -> None:
    heard: dict[str, list[Any]] = {"ada": [], "bob": []}

    async def listen(name: str, ready: asyncio.Event) -> None:
        async def on_message(message: Any) -> None:
            if isinstance(message, types.ToolListChangedNotification):
                heard[name].append(message)

        async with client_of(Person(there, name), there, LEGACY, name, message_handler=on_message) as client:
            await client.list_tools()
            ready.set()
            await done.wait()

    done, ready = asyncio.Event(), [asyncio.Event(), asyncio.Event()]
    listening = [asyncio.create_task(listen(name, it)) for name, it in zip(heard, ready, strict=True)]
    for one in ready:
        await one.wait()
    await there.logged_in("ada")
    await until(lambda: bool(heard["ada"]))
    done.set()
    await asyncio.gather(*listening)
    assert heard["bob"] == []


async def test_an_agent_that_is_not_verified_cannot_log_in() -> None:
    async with world(TOML_OPEN) as open_world:
        agent = open_world.agent("", URL_AND_FORM)
        refused = await agent.call("tracker:search")
        assert "it is not verified who calls: the operator enables a plugin" in refused["error"]["message"]
        assert not open_world.gateway.pool.attempts._running


TOML_OPEN = """
[mcp.proxy]
enable = true
port = {port}
[[mcp.proxy.upstreams]]
name = "tracker"
transport = "http"
url = "{origin}/mcp"
[mcp.proxy.upstreams.auth]
grant = "authorization_code"
identity = "user"
"""


async def test_the_lists_of_the_operators_login_are_shown_to_all_and_calls_are_the_users_own(there: World) -> None:
    there.tracker.valid.add("operator")
    there.tracker.people["operator"] = "the operator"
    login = Login(
        since=1.0,
        url=f"{there.tracker.origin}/mcp",
        issuer=there.tracker.origin,
        client=OAuthClient("client-0"),
        access_token="operator",
    )
    await there.gateway._logins.change(GATEWAY, "tracker", lambda _: login)
    ada = there.agent("ada", URL_AND_FORM)
    async with asyncio.timeout(60):
        while "search" not in await ada.tools():
            await asyncio.sleep(0.05)
    there.called = "search"
    asked = await ada.call()
    assert asked["result"]["resultType"] == "input_required"
    there.tracker.person = "ada"
    await there.browser("ada").log_in(url_of(asked))
    assert text_of(await ada.answered(asked)) == "you are ada"


async def test_an_upstream_that_asks_for_more_scopes_leads_to_another_login(there: World) -> None:
    ada = await there.logged_in("ada")
    assert text_of(await ada.call()) == "you are ada"
    there.tracker.forbids = True
    there.called = "search"
    asked = await ada.call()
    assert "result" in asked, asked
    there.tracker.forbids = False
    there.tracker.person = "ada again"
    await there.browser("ada").log_in(url_of(asked))
    assert text_of(await ada.answered(asked)) == "you are ada again"


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_a_login_that_fails_ends_its_call(there: World, mode: str) -> None:
    there.tracker.denies = True
    async with client_of(Person(there, "ada"), there, mode) as client:
        found = await client.call_tool("tracker:search", {})
    assert found.is_error
    text = found.content[0].text
    assert "the login at upstream tracker failed: the authorization server refused (access_denied)" in text


async def test_logins_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    async with world(logins=tmp_path / "logins") as first:
        await first.logged_in("ada")
        content = (tmp_path / "logins").read_bytes()
        assert b"hidden" not in content
        kept = first.gateway._logins.at("tracker")["ada|proxy"]
    async with world(logins=tmp_path / "logins") as second:
        assert second.gateway._logins.at("tracker")["ada|proxy"] == kept


async def test_tokens_are_in_no_answer(there: World) -> None:
    ada = await there.logged_in("ada")
    (token,) = list(there.tracker.valid)
    there.tracker.people[token] = f"a person with {token}"
    assert text_of(await ada.call()) == "you are a person with [REDACTED]"


@pytest.mark.parametrize("status", [302, 307, 308])
async def test_the_token_of_a_user_follows_no_redirect_to_another_origin(there: World, status: int) -> None:
    ada = await there.logged_in("ada")
    assert text_of(await ada.call()) == "you are ada"
    async with tracker_served() as elsewhere:
        there.tracker.moved = status, f"{elsewhere.origin}/mcp"
        refused = await ada.call()
        there.tracker.moved = None
    assert re.search(r"redirects (to|with)", json.dumps(refused))
    assert there.tracker.calls[-1] == ("tools/call", "Bearer hidden-access-1")
    assert elsewhere.calls == []
    assert text_of(await ada.call()) == "you are ada"


async def test_two_gateways_with_one_login_file_use_the_refresh_token_of_a_user_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.auth.vault._keyring", lambda: None)
    path = tmp_path / "logins"
    async with world(logins=path) as first:
        ada = await first.logged_in("ada")
        bob = await first.logged_in("bob")
        async with world(logins=path, tracker=first.tracker) as second:
            issued, before = first.tracker.issued, first.gateway._logins.at("tracker")["bob|proxy"]
            await first.gateway._logins.change(
                "ada|proxy", "tracker", lambda it: it and replace(it, expires_at=time.time() - 1)
            )
            agents = [ada, second.agent("ada"), second.agent("ada"), ada]
            async with asyncio.timeout(60):
                while second.gateway._logins.at("tracker")["ada|proxy"].expires_at > time.time():
                    await asyncio.sleep(0.05)
            answers = await asyncio.gather(*(it.call() for it in agents))
            assert [text_of(it) for it in answers] == ["you are ada"] * 4
            assert first.tracker.issued == issued + 1
            assert text_of(await bob.call()) == "you are bob"
            assert first.gateway._logins.at("tracker")["bob|proxy"] == before
            kept = [it.gateway._logins.at("tracker")["ada|proxy"].refresh_token for it in (first, second)]
            assert kept[0] in first.tracker.refresh


async def test_a_token_that_cannot_be_renewed_ends_one_login_when_it_is_refused(there: World) -> None:
    ada, bob = await there.logged_in("ada"), await there.logged_in("bob")
    await there.gateway._logins.change("ada|proxy", "tracker", lambda found: found and replace(found, refresh_token=""))
    assert text_of(await ada.call()) == "you are ada"
    there.tracker.valid -= {token for token, who in there.tracker.people.items() if who == "ada"}
    assert (await ada.call())["result"]["resultType"] == "input_required"
    assert there.gateway._logins.at("tracker")["ada|proxy"].ended.startswith("the upstream refuses the access token")
    assert await ada.tools() == ["tracker_login"]
    assert text_of(await bob.call()) == "you are bob"


async def test_a_legacy_request_that_carries_no_question_gets_the_address_as_an_error(there: World) -> None:
    """2025-11-25, client/elicitation, URL Elicitation Required Error."""
    headers = {USER: "ada", "Accept": "application/json"}
    asks = {"capabilities": URL_ONLY, "clientInfo": {"name": "a", "version": "1"}, "protocolVersion": "2025-11-25"}

    async def post(method: str, params: Any) -> Any:
        message = {"jsonrpc": "2.0", "id": method, "method": method, "params": params}
        async with there.http.post(f"{there.base}/mcp", json=message, headers=headers) as answer:
            session = answer.headers.get("Mcp-Session-Id")
            if session is not None:
                headers["Mcp-Session-Id"] = session
            return await answer.json()

    await post("initialize", asks)
    error = (await post("tools/call", {"name": "tracker_login", "arguments": {}}))["error"]
    assert error["code"] == -32042
    (wanted,) = error["data"]["elicitations"]
    assert (wanted["mode"], bool(wanted["elicitationId"])) == ("url", True)
    there.tracker.person = "ada"
    await there.browser("ada").log_in(wanted["url"])
    text = (await post("tools/call", {"name": "search", "arguments": {}}))["result"]["content"][0]["text"]
    assert text == "you are ada"
