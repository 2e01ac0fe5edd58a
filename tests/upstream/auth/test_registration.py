"""Which client a login uses, and what a registration may answer."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import SecretStr

from gateway_core.upstream.auth import Challenge
from gateway_core.upstream.auth.documents import Refused
from gateway_core.upstream.auth.registration import CLIENT_NAME

REDIRECT = "http://127.0.0.1:8765/callback"
DOCUMENT = "https://example.com/radium/client.json"
SECRET = "s3cr3t:/ä&"


@pytest.fixture
def protected(world: Any) -> Any:
    world.protect()
    world.authority.publish_logins(client_id_metadata_document_supported=True)
    return world


async def test_a_configured_client_comes_first(protected: Any) -> None:
    login = await protected.log_in(client_id="known", client_secret=SecretStr(SECRET))
    assert (login.client.id, login.client.kind) == ("known", "configured")
    assert login.client.secret == "", "it stays in the configuration"
    assert protected.authority.basic == [f"known:{SECRET}"]
    assert protected.authority.clients == []


async def test_a_configured_client_without_a_secret_is_public(protected: Any) -> None:
    await protected.log_in(client_id="known")
    assert protected.authority.basic == [""]
    assert protected.authority.forms[0]["client_id"] == "known"


async def test_a_metadata_document_is_the_client(protected: Any) -> None:
    login = await protected.log_in(client_metadata_url=DOCUMENT)
    assert (login.client.id, login.client.kind) == (DOCUMENT, "document")
    assert protected.authority.forms[0]["client_id"] == DOCUMENT
    assert protected.authority.clients == []


async def test_a_server_that_takes_no_documents_registers_the_client(world: Any) -> None:
    world.protect()
    world.authority.publish_logins()
    assert (await world.log_in(client_metadata_url=DOCUMENT)).client.kind == "registered"


async def test_a_registration_says_what_the_client_is(protected: Any) -> None:
    login = await protected.log_in()
    assert (login.client.id, login.client.kind, login.client.method) == ("registered-1", "registered", "none")
    assert protected.authority.clients == [
        {
            "client_name": CLIENT_NAME,
            "redirect_uris": [REDIRECT],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
            "application_type": "native",
        }
    ]


@pytest.mark.parametrize(
    ("offered", "asked"),
    [
        (["client_secret_post", "none"], "none"),
        (["client_secret_post", "client_secret_basic"], "client_secret_basic"),
        (["client_secret_post"], "client_secret_post"),
        (["tls_client_auth"], "none"),
        (None, "client_secret_basic"),
    ],
)
async def test_the_authentication_that_a_client_registers_for(protected: Any, offered: Any, asked: str) -> None:
    protected.authority.publish_logins(token_endpoint_auth_methods_supported=offered)
    await protected.log_in()
    assert protected.authority.clients[0]["token_endpoint_auth_method"] == asked


async def test_a_registered_secret_is_used_as_the_server_says(protected: Any) -> None:
    protected.authority.registration = {"client_secret": SECRET, "token_endpoint_auth_method": "client_secret_post"}
    protected.authority.registration["client_secret"] = "s3cr3t-registered"
    login = await protected.log_in()
    assert protected.authority.forms[0]["client_secret"] == "s3cr3t-registered"
    assert "s3cr3t-registered" not in repr(login)
    assert "token-1" not in repr(login)


async def test_a_registered_client_is_used_again(protected: Any) -> None:
    first = await protected.log_in()
    second = await protected.log_in()
    assert first.client == second.client
    assert len(protected.authority.clients) == 1


async def test_another_redirect_uri_needs_another_registration(protected: Any) -> None:
    last = await protected.log_in()
    await protected.flow(last).begin(Challenge(), "http://127.0.0.1:9999/callback")
    assert len(protected.authority.clients) == 2


async def test_an_expired_registration_is_not_used(protected: Any) -> None:
    protected.authority.registration = {"client_secret": "abcdef", "client_secret_expires_at": time.time() - 1}
    await protected.log_in()
    await protected.log_in()
    assert len(protected.authority.clients) == 2


async def test_a_client_of_one_server_is_not_sent_to_another(protected: Any) -> None:
    last = await protected.log_in()
    other = protected.elsewhere
    protected.protect(authorization_servers=[other.origin])
    other.documents["/.well-known/oauth-authorization-server"] = {
        "issuer": other.origin,
        "authorization_endpoint": f"{other.origin}/authorize",
        "token_endpoint": f"{other.origin}/token",
        "registration_endpoint": f"{other.origin}/register",
        "code_challenge_methods_supported": ["S256"],
    }
    other.documents["/register"] = protected.authority.register
    address = await protected.flow(last).begin(Challenge(), REDIRECT)
    assert address.query["client_id"] == "registered-2"
    assert last.client.id not in str(address)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"status": 400, "error": "invalid_redirect_uri"}, r"HTTP 400 \(invalid_redirect_uri\)"),
        ({"status": 400, "error": SECRET}, "HTTP 400$"),
        ({"status": 500}, "HTTP 500"),
        ({"client_id": ""}, "no usable client_id"),
        ({"client_id": "a\r\nb"}, "no usable client_id"),
        ({"client_id": 5}, "no usable client_id"),
        ({"client_id": "x" * 3000}, "no usable client_id"),
        ({"client_secret": "a\nb"}, "no usable client_id"),
        ({"client_secret": "abc", "token_endpoint_auth_method": "tls_client_auth"}, "does not have"),
    ],
)
async def test_an_unusable_registration_ends_the_login(protected: Any, answer: Any, reason: str) -> None:
    protected.authority.registration = answer
    with pytest.raises(Refused, match=reason) as caught:
        await protected.log_in()
    assert SECRET not in str(caught.value)


async def test_a_server_that_registers_no_client_wants_a_client_id(protected: Any) -> None:
    protected.authority.publish_logins(registration_endpoint=None)
    with pytest.raises(Refused, match="write its client_id"):
        await protected.log_in()
    with pytest.raises(Refused, match="accepts no client metadata documents and registers no clients"):
        await protected.log_in(client_metadata_url=DOCUMENT)
