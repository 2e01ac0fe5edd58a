"""From a 401 to the authorization server, and what must not be followed on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from gateway_core.errors import NotSent
from gateway_core.upstream.auth import discovery, documents

PRM = "/.well-known/oauth-protected-resource"
METADATA = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"
SECRET = "s3cr3t:/ä&"


async def test_an_upstream_that_needs_no_token_gets_none(world: Any) -> None:
    client = world.client()
    assert await world.status(client, "/open") == 200
    assert world.resource.asked == []
    assert world.authority.asked == []


async def test_the_address_in_the_challenge_is_the_one_that_is_asked(world: Any) -> None:
    world.protect("/custom/place.json")
    world.protect(f"{PRM}/mcp", authorization_servers=["https://elsewhere.example"])
    world.resource.challenge = {"resource_metadata": f"{world.resource.origin}/custom/place.json"}
    world.authority.publish()
    assert await world.status(world.client()) == 200
    assert world.resource.asked == ["/custom/place.json"]
    assert world.resource.used == ["", "Bearer token-1"]


async def test_an_address_in_the_challenge_that_has_nothing_is_the_end(world: Any) -> None:
    world.protect()
    world.resource.challenge = {"resource_metadata": f"{world.resource.origin}/gone"}
    world.authority.publish()
    assert "set token_url" in await world.refusal(world.client())
    assert world.resource.asked == ["/gone"]


@pytest.mark.parametrize(("path", "asked"), [(f"{PRM}/mcp", 1), (PRM, 2)])
async def test_without_an_address_the_path_and_then_the_root_are_asked(world: Any, path: str, asked: int) -> None:
    resource = world.resource.origin if path == PRM else f"{world.resource.origin}/mcp"
    world.protect(path, resource=resource)
    world.authority.publish()
    assert await world.status(world.client()) == 200
    assert world.resource.asked == [f"{PRM}/mcp", PRM][:asked]
    assert world.authority.forms[0]["resource"] == resource


@pytest.mark.parametrize(
    ("tenant", "places"),
    [
        ("", [METADATA, OPENID]),
        ("/tenant", [f"{METADATA}/tenant", f"{OPENID}/tenant", f"/tenant{OPENID}"]),
    ],
)
async def test_metadata_is_looked_for_in_the_order_of_the_specification(
    world: Any, tenant: str, places: list[str]
) -> None:
    for count, place in enumerate(places, 1):
        world.authority.asked.clear()
        world.authority.documents.clear()
        world.protect(authorization_servers=[world.authority.publish(place, tenant=tenant)])
        assert await world.status(world.client()) == 200
        assert world.authority.asked == [*places[:count], "/token"]
        world.resource.tokens.clear()


@pytest.mark.parametrize("wrong", ["https://honest.example", "{origin}/", "{origin}/tenant", ""])
async def test_metadata_of_another_issuer_is_not_used(world: Any, wrong: str) -> None:
    world.protect()
    world.authority.publish(issuer=wrong.format(origin=world.authority.origin))
    assert "is that of another issuer" in await world.refusal(world.client())
    assert world.authority.forms == []
    assert world.authority.asked == [METADATA]  # nor is it looked for at the next place


@pytest.mark.parametrize(
    "wrong",
    ["https://evil.example/mcp", "{origin}/mcp2", "{origin}/mcp/inner", "{origin}0/mcp", "mcp", "", "https://[::1"],
)
async def test_metadata_about_another_resource_is_not_used(world: Any, wrong: str) -> None:
    world.protect(resource=wrong.format(origin=world.resource.origin))
    world.authority.publish()
    assert "about another resource" in await world.refusal(world.client())
    assert world.authority.asked == []


@pytest.mark.parametrize("where", ["resource", "authority", "token"])
async def test_redirects_are_not_followed(world: Any, where: str) -> None:
    async def moved(request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(f"{world.elsewhere.origin}/taken")

    world.protect()
    world.authority.publish()
    host, path = {
        "resource": (world.resource, f"{PRM}/mcp"),
        "authority": (world.authority, METADATA),
        "token": (world.authority, "/token"),
    }[where]
    host.documents[path] = moved
    assert "HTTP 307" in await world.refusal(world.client())
    assert world.elsewhere.asked == []


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def silent(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError


def text(body: str) -> Any:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=body)

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (endless, "larger than 65536 bytes"),
        (text("[" * 60_000), "is not what it should be"),
        (text("<html>s3cr3t</html>"), "is not what it should be"),
        (text('{"resource": 7, "issuer": 7}'), "is not what it should be"),
        (text("{}"), "is not what it should be"),
        (text("\ufeff\ud7ff"), "is not what it should be"),
        (silent, "no answer within 0.2 s"),
    ],
)
@pytest.mark.parametrize("where", ["resource", "authority"])
async def test_documents_are_bounded_and_must_be_what_they_should(
    world: Any, monkeypatch: pytest.MonkeyPatch, where: str, answer: Any, reason: str
) -> None:
    monkeypatch.setattr(documents, "TIMEOUT", 0.2 if answer is silent else 10.0)
    world.protect()
    world.authority.publish()
    host, path = (world.resource, f"{PRM}/mcp") if where == "resource" else (world.authority, METADATA)
    host.documents[path] = answer
    assert reason in await world.refusal(world.client())
    assert world.authority.forms == []


async def test_the_whole_of_discovery_is_bounded_too(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "DISCOVERY", 0.2)
    world.protect()
    world.authority.documents[METADATA] = silent
    assert "not found within 0.2 s" in await world.refusal(world.client())


async def test_an_error_of_the_server_is_no_reason_to_look_elsewhere(world: Any) -> None:
    async def broken(request: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPInternalServerError

    world.protect()
    world.authority.documents[METADATA] = broken
    world.authority.publish(OPENID)
    assert "HTTP 500" in await world.refusal(world.client())


@pytest.mark.parametrize(
    ("servers", "reason"), [([], "names no authorization server"), (None, "is not what it should be")]
)
async def test_a_resource_without_authorization_server(world: Any, servers: list[str] | None, reason: str) -> None:
    world.protect(authorization_servers=servers)
    assert reason in await world.refusal(world.client())


async def test_a_server_without_token_endpoint(world: Any) -> None:
    world.protect()
    world.authority.publish(token_endpoint="")
    assert "no token_endpoint" in await world.refusal(world.client())


# Whom the credentials belong to


async def test_a_server_that_changed_gets_no_credentials_of_the_old_one(world: Any, logged: list[str]) -> None:
    world.protect()
    issuer = world.authority.publish()
    client = world.client()
    assert await world.status(client) == 200
    assert any(f"issuer = '{issuer}'" in line for line in logged)
    new = world.elsewhere.origin
    world.elsewhere.documents[METADATA] = {"issuer": new, "token_endpoint": f"{new}/token"}
    world.protect(authorization_servers=[new])
    world.resource.tokens.clear()
    reason = await world.refusal(client)
    assert f"does not name {world.authority.origin}" in reason
    assert "set issuer" in reason
    assert world.elsewhere.asked == []
    assert len(world.authority.forms) == 1


async def test_a_server_that_is_still_named_beside_others_is_kept(world: Any) -> None:
    world.protect()
    world.authority.publish()
    client = world.client()
    assert await world.status(client) == 200
    world.protect(authorization_servers=[world.elsewhere.origin, world.authority.origin])
    world.resource.tokens.clear()
    assert await world.status(client) == 200
    assert world.elsewhere.asked == []


async def test_the_configured_issuer_is_chosen_and_no_other(world: Any) -> None:
    world.protect(authorization_servers=[world.elsewhere.origin, world.authority.origin])
    world.authority.publish()
    assert await world.status(world.client(issuer=world.authority.origin)) == 200
    assert "does not name" in await world.refusal(world.client(issuer="https://auth.example.com"))
    assert world.elsewhere.asked == []


async def test_the_configured_issuer_serves_where_the_upstream_names_none(world: Any) -> None:
    world.authority.publish()
    assert await world.status(world.client(issuer=world.authority.origin)) == 200
    assert "set token_url" in await world.refusal(world.client())


async def test_many_requests_are_one_discovery_and_one_token(world: Any) -> None:
    world.protect()
    world.authority.publish()
    client = world.client()
    assert set(await asyncio.gather(*[world.status(client) for _ in range(10)])) == {200}
    assert world.resource.asked == [f"{PRM}/mcp"]
    assert world.authority.asked == [METADATA, "/token"]


async def test_a_refused_token_is_replaced_after_a_new_discovery(world: Any) -> None:
    world.protect()
    world.authority.publish()
    client = world.client()
    assert await world.status(client) == 200
    world.resource.tokens.clear()
    assert await world.status(client) == 200
    assert world.resource.used == ["", "Bearer token-1", "Bearer token-1", "Bearer token-2"]
    assert world.authority.asked == [METADATA, "/token"] * 2


async def test_a_token_endpoint_that_moved_is_found_again(world: Any, clock: Callable[[float], None]) -> None:
    world.protect()
    world.authority.publish()
    client = world.client()
    assert await world.status(client) == 200
    world.authority.documents["/new"] = world.authority.documents.pop("/token")
    world.authority.documents[METADATA]["token_endpoint"] = f"{world.authority.origin}/new"
    clock(4000)
    assert "HTTP 404" in await world.refusal(client)
    clock(1)
    assert await world.status(client) == 200
    assert world.resource.used == ["", "Bearer token-1", "", "Bearer token-2"]


async def test_tokens_that_are_never_taken_are_not_fetched_for_ever(world: Any) -> None:
    world.protect()
    world.authority.publish()
    world.authority.valid = False
    client = world.client()
    assert [await world.status(client) for _ in range(3)] == [401, 401, 401]
    assert len(world.authority.forms) == 2


async def test_configured_headers_stay_with_the_upstream(world: Any) -> None:
    world.protect()
    world.authority.publish()
    assert await world.status(world.client(headers={"X-Api-Key": "k", "Cookie-Like": "c"})) == 200
    for host in (world.authority, world.resource):
        assert all("X-Api-Key" not in headers for headers in host.headers)
    assert [headers.get("Authorization", "")[:6] for headers in world.authority.headers] == ["", "Basic "]


# Where metadata must not lead


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://auth.example.com", "not https"),
        ("http://192.0.2.1", "not https"),
        ("http://[::ffff:169.254.169.254]", "not https"),
        ("http://0177.0.0.1", "not https"),
        ("https://169.254.169.254", "must not lead to"),
        ("https://10.0.0.1", "must not lead to"),
        ("https://[fd00::1]", "must not lead to"),
        ("https://[::ffff:10.0.0.1]", "must not lead to"),
        ("https://0x0a000001", "must not lead to"),
        ("https://0", "not reachable"),  # aiohttp takes no such numbers
        ("https://0.0.0.0", "must not lead to"),
        ("file:///etc/passwd", "not one that can be asked"),
        ("javascript:alert(1)", "not one that can be asked"),
        ("https://user:pass@auth.example.com", "not one that can be asked"),
        ("https://", "not one that can be asked"),
        ("https://[", "not one that can be asked"),
        ("https://auth.example.com/#f", "not one that can be asked"),
        ("https://auth.example.com/" + "a" * 2048, "not one that can be asked"),
    ],
)
@pytest.mark.parametrize("where", ["challenge", "issuer", "token"])
async def test_a_stranger_does_not_choose_any_address(world: Any, where: str, url: str, reason: str) -> None:
    world.protect()
    world.authority.publish()
    if where == "challenge":
        world.resource.challenge = {"resource_metadata": url}
    elif where == "issuer":
        world.protect(authorization_servers=[url])
    else:
        world.authority.publish(token_endpoint=url)
    assert reason in await world.refusal(world.client())
    assert world.authority.forms == []


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("127.0.0.1", "must not lead to"),
        ("localhost", "must not lead to"),  # a name is judged by where it leads
        ("[::ffff:127.0.0.1]", "must not lead to"),
        ("2130706433", "not reachable"),  # aiohttp takes no such numbers
        ("0177.0.0.1", "not reachable"),
    ],
)
async def test_an_upstream_elsewhere_leads_to_nothing_on_this_machine(
    world: Any, listen_on: Any, host: str, reason: str
) -> None:
    connections = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1

    port = await listen_on(count)
    client = world.client()
    client.access.addresses.add("93.184.215.14")  # as if the upstream had been reached there
    world.protect(authorization_servers=[f"https://{host}:{port}"])
    assert reason in await world.refusal(client)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""  # this connection was noticed, and would have been behind another one
    writer.close()
    assert connections == 1


async def test_an_upstream_is_where_a_connection_of_its_own_leads(world: Any, listen_on: Any) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    world.authority.publish()
    away = f"https://127.0.0.1:{await listen_on(hang_up)}/mcp"  # it is no TLS server
    client = world.client(url=away, token_url=f"{world.authority.origin}/token")
    with pytest.raises(NotSent):
        await client.open("POST", {}, body=b"{}")
    assert len(world.authority.forms) == 1
    assert client.access.addresses == set()
    client = world.client()
    assert await world.status(client, "/open") == 200
    assert client.access.addresses == {"127.0.0.1"}


@pytest.mark.parametrize("url", ["https://auth.example.com/\u202e", "https://auth.example.com/\n", "https://xn--/"])
async def test_an_address_with_characters_that_hide_something_is_none(world: Any, url: str) -> None:
    world.protect(authorization_servers=[url])
    assert "not one that can be asked" in await world.refusal(world.client())


async def test_an_upstream_on_this_machine_may_have_its_server_there(world: Any, listen_on: Any) -> None:
    connected = asyncio.Event()

    async def notice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()

    world.protect(authorization_servers=[f"https://127.0.0.1:{await listen_on(notice)}"])
    assert "not reachable" in await world.refusal(world.client())  # it is no TLS server
    assert connected.is_set()


async def test_nothing_that_a_server_says_in_words_is_logged(world: Any, logged: list[str]) -> None:
    world.protect()
    world.authority.publish()
    world.authority.refuses = (400, "invalid_target")
    assert "invalid_target" in await world.refusal(world.client())
    assert logged
    assert not any("s3cr3t" in line for line in logged)
