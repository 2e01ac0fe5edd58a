"""One login, from the address for the browser to the tokens, and the lies that must end or change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway_core.upstream.auth import Challenge, documents
from gateway_core.upstream.auth.code_flow import NotOurs, revoke_login
from gateway_core.upstream.auth.documents import Refused

REDIRECT = "http://127.0.0.1:8765/callback"
SECRET = "s3cr3t:/ä&"


@pytest.fixture
def protected(world: Any) -> Any:
    """The upstream names the authority, which has the code flow."""
    world.protect()
    world.authority.publish_logins()
    return world


async def begun(world: Any, **auth: Any) -> tuple[Any, Any]:
    flow = world.flow(**auth)
    return flow, await flow.begin(Challenge(), REDIRECT)


async def test_a_login_ends_with_tokens_for_this_upstream(protected: Any) -> None:
    login = await protected.log_in(Challenge(scopes=("tools:read",)))
    assert (login.access_token, login.refresh_token) == ("token-1", "refresh-1")
    assert login.issuer == protected.authority.origin
    assert login.url == f"{protected.resource.origin}/mcp"
    assert login.scopes == ("tools:read",)
    (form,) = protected.authority.forms
    assert form["grant_type"] == "authorization_code"
    assert form["resource"] == f"{protected.resource.origin}/mcp"
    assert "code_verifier" in form


async def test_the_browser_gets_a_challenge_and_never_the_verifier(protected: Any) -> None:
    flow, address = await begun(protected)
    query = dict(address.query)
    assert query["code_challenge_method"] == "S256"
    assert query["response_type"] == "code"
    assert query["redirect_uri"] == REDIRECT
    assert query["resource"] == f"{protected.resource.origin}/mcp"
    await flow.finish(protected.authority.approve(address))
    verifier = protected.authority.forms[0]["code_verifier"]
    assert 43 <= len(verifier) <= 128
    assert verifier not in str(address)


async def test_each_login_has_its_own_state_and_challenge(protected: Any) -> None:
    addresses = [(await begun(protected))[1] for _ in range(3)]
    for name in ("state", "code_challenge"):
        assert len({address.query[name] for address in addresses}) == 3


async def test_the_query_of_the_authorization_endpoint_stays(protected: Any) -> None:
    protected.authority.publish_logins(authorization_endpoint=f"{protected.authority.origin}/authorize?tenant=a")
    _, address = await begun(protected)
    assert address.query["tenant"] == "a"
    assert address.query["client_id"] == "registered-1"


# -- scopes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "challenged", "supported", "offline", "asked"),
    [
        ("a b", ("c",), ["d"], True, "a b"),
        (None, ("c",), ["d"], False, "c"),
        (None, (), ["d", "e"], False, "d e"),
        (None, (), None, True, None),
        (None, ("c",), None, True, "c offline_access"),
    ],
)
async def test_the_scopes_that_a_login_asks_for(
    world: Any, configured: Any, challenged: Any, supported: Any, offline: bool, asked: Any
) -> None:
    world.protect(scopes_supported=supported)
    world.authority.publish_logins(scopes_supported=["offline_access"] if offline else ["openid"])
    flow = world.flow(scope=configured)
    address = await flow.begin(Challenge(scopes=challenged), REDIRECT)
    assert address.query.get("scope") == asked
    assert ("prompt" in address.query) == ("offline_access" in (asked or ""))


# -- answers that are not believed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [["other"], None, [], ["a", "b"], [""]])
async def test_an_answer_with_another_state_changes_nothing(protected: Any, state: Any) -> None:
    flow, address = await begun(protected)
    with pytest.raises(NotOurs):
        await flow.finish(protected.authority.approve(address, state=state))
    assert protected.authority.forms == []
    await flow.finish(protected.authority.approve(address))


@pytest.mark.parametrize(
    ("advertised", "iss", "reason"),
    [
        (True, None, "does not name its issuer"),
        (True, "https://evil.example", "another authorization server"),
        (False, "https://evil.example", "another authorization server"),
        (None, "{own}/", "another authorization server"),
        (True, "{own}", ""),
        (None, "{own}", ""),
        (None, None, ""),
    ],
)
async def test_the_issuer_in_the_answer_is_the_one_that_was_asked(
    protected: Any, advertised: Any, iss: Any, reason: str
) -> None:
    protected.authority.publish_logins(authorization_response_iss_parameter_supported=advertised)
    flow, address = await begun(protected)
    given = None if iss is None else [iss.format(own=protected.authority.origin)]
    finishing = flow.finish(protected.authority.approve(address, iss=given))
    if not reason:
        assert (await finishing).access_token
        return
    with pytest.raises(Refused, match=reason):
        await finishing
    assert protected.authority.forms == []


async def test_two_issuers_in_one_answer_are_refused(protected: Any) -> None:
    flow, address = await begun(protected)
    own = protected.authority.origin
    with pytest.raises(Refused, match="another authorization server"):
        await flow.finish(protected.authority.approve(address, iss=[own, "https://evil.example"]))


async def test_an_error_from_another_issuer_is_not_shown(protected: Any) -> None:
    flow, address = await begun(protected)
    answer = protected.authority.approve(address, code=None, error=["access_denied"], iss=["https://evil.example"])
    with pytest.raises(Refused) as caught:
        await flow.finish(answer)
    assert "access_denied" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"), [("access_denied", r"refused \(access_denied\)"), (f"<b>{SECRET}</b>", "server refused$")]
)
async def test_a_refusal_is_told_without_the_servers_own_text(protected: Any, error: str, words: str) -> None:
    flow, address = await begun(protected)
    answer = protected.authority.approve(address, code=None, error=[error], error_description=[SECRET])
    with pytest.raises(Refused, match=words) as caught:
        await flow.finish(answer)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("code", [None, [""], ["x" * 5000], ["a", "b"]])
async def test_an_answer_without_a_usable_code(protected: Any, code: Any) -> None:
    flow, address = await begun(protected)
    with pytest.raises(Refused, match="no code"):
        await flow.finish(protected.authority.approve(address, code=code))
    assert protected.authority.forms == []


async def test_an_expired_code(protected: Any) -> None:
    flow, address = await begun(protected)
    answer = protected.authority.approve(address)
    protected.authority.codes.clear()
    with pytest.raises(Refused, match=r"not exchanged for a token: HTTP 400 \(invalid_grant\)"):
        await flow.finish(answer)


async def test_a_code_of_another_login_does_not_fit(protected: Any) -> None:
    """Its challenge belongs to another verifier (RFC 7636)."""
    _, first = await begun(protected)
    flow, second = await begun(protected)
    stolen = protected.authority.approve(first)["code"]
    with pytest.raises(Refused, match="invalid_grant"):
        await flow.finish(protected.authority.approve(second, code=stolen))


# -- servers that are not believed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"code_challenge_methods_supported": None},
        {"code_challenge_methods_supported": ["plain"]},
        {"authorization_endpoint": None},
        {"response_types_supported": ["token"]},
    ],
)
async def test_without_pkce_or_codes_there_is_no_login(world: Any, members: Any) -> None:
    world.protect()
    world.authority.publish_logins(**members)
    with pytest.raises(Refused, match="offers no login"):
        await begun(world)
    assert world.authority.clients == []


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        ("http://192.0.2.1/authorize", "not https"),
        ("javascript:alert(1)", "not one that can be asked"),
        ("file:///etc/passwd", "not one that can be asked"),
        ("https://user@192.0.2.1/", "not one that can be asked"),
        ("https://10.0.0.7/authorize", "must not lead to"),
        ("https://[::ffff:169.254.169.254]/", "must not lead to"),
    ],
)
async def test_a_browser_is_not_sent_everywhere(world: Any, endpoint: str, reason: str) -> None:
    world.protect()
    world.authority.publish_logins(authorization_endpoint=endpoint)
    with pytest.raises(Refused, match=reason):
        await begun(world)


@pytest.mark.parametrize("name", ["token_endpoint", "registration_endpoint"])
async def test_an_endpoint_inside_another_network_is_not_asked(world: Any, name: str) -> None:
    world.protect()
    world.authority.publish_logins(**{name: "https://10.0.0.7/x"})

    async def attempt() -> None:
        flow, address = await begun(world)
        await flow.finish(world.authority.approve(address))

    with pytest.raises(Refused, match="must not lead to"):
        await attempt()


async def test_metadata_of_another_issuer_is_not_used(world: Any) -> None:
    world.protect()
    world.authority.publish_logins(issuer="https://evil.example")
    with pytest.raises(Refused, match="another issuer"):
        await begun(world)


async def test_metadata_about_another_resource_is_not_used(world: Any) -> None:
    world.protect(resource="https://evil.example/mcp")
    world.authority.publish_logins()
    with pytest.raises(Refused, match="another resource"):
        await begun(world)


async def test_a_configured_client_stays_with_the_issuer_of_its_first_login(protected: Any) -> None:
    auth = {"client_id": "known", "client_secret": SecretStr(SECRET)}
    last = await protected.log_in(**auth)
    protected.protect(authorization_servers=[protected.elsewhere.origin])
    flow = protected.flow(last, **auth)
    with pytest.raises(Refused, match="does not name"):
        await flow.begin(Challenge(), REDIRECT)
    assert protected.elsewhere.asked == []


def big(request: Any) -> Any:
    return web.Response(body=b'{"access_token": "a", "junk": "' + b"x" * 70_000 + b'"}')


def silent(request: Any) -> Any:
    return asyncio.sleep(5, web.Response())


def redirecting(request: Any) -> Any:
    return web.Response(status=302, headers={"Location": "http://10.0.0.7/"})


@pytest.mark.parametrize(
    ("answer", "reason"), [(big, "larger than 65536"), (silent, "no answer within"), (redirecting, "HTTP 302")]
)
async def test_a_strange_token_endpoint_ends_the_login(
    protected: Any, answer: Callable[[Any], Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def token(request: Any) -> Any:
        found = answer(request)
        return await found if asyncio.iscoroutine(found) else found

    flow, address = await begun(protected)
    protected.authority.documents["/token"] = token
    monkeypatch.setattr(documents, "TIMEOUT", 0.2 if answer is silent else 10.0)
    with pytest.raises(Refused, match=reason):
        await flow.finish(protected.authority.approve(address))


async def test_endpoints_of_the_configuration_need_no_metadata(world: Any) -> None:
    world.authority.publish()
    origin = world.authority.origin
    auth = {"client_id": "known", "token_url": f"{origin}/token", "authorization_url": f"{origin}/authorize"}
    flow, address = await begun(world, **auth)
    assert address.query["client_id"] == "known"
    login = await flow.finish(world.authority.approve(address))
    assert (login.access_token, login.issuer) == ("token-1", "")
    flow, address = await begun(world, **auth)
    with pytest.raises(Refused, match="write the issuer"):
        await flow.finish(world.authority.approve(address, iss=["https://evil.example"]))


# -- revocation -----------------------------------------------------------------------------------------------------


async def test_both_tokens_of_a_login_are_revoked(protected: Any) -> None:
    login = await protected.log_in()
    client = protected.login_client()
    client.access.addresses.add("127.0.0.1")
    await revoke_login(client.url, protected.flow()._config, client.access, login)
    assert protected.authority.revoked == ["refresh-1", "token-1"]


async def test_a_server_without_revocation_says_so(protected: Any) -> None:
    protected.authority.publish_logins(revocation_endpoint=None)
    login = await protected.log_in()
    client = protected.login_client()
    client.access.addresses.add("127.0.0.1")
    with pytest.raises(Refused, match="no revocation endpoint"):
        await revoke_login(client.url, protected.flow()._config, client.access, login)
