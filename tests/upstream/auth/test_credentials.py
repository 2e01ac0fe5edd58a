"""How the client proves who it is, and what the token is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

CLIENT = "the client"
SECRET = "s3cr3t:/ä&"
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> SecretStr:
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


@pytest.mark.parametrize(
    ("offered", "tried"),
    [
        (None, ["basic", "post"]),
        (["client_secret_post", "client_secret_basic"], ["basic", "post"]),
        (["client_secret_post", "private_key_jwt"], ["post"]),
        (["tls_client_auth"], ["basic", "post"]),
    ],
)
async def test_the_method_that_the_server_offers_is_used_and_remembered(
    world: Any, offered: list[str] | None, tried: list[str]
) -> None:
    world.protect()
    world.authority.publish(token_endpoint_auth_methods_supported=offered)
    world.authority.methods = {"client_secret_post"}
    client = world.client()
    assert await world.status(client) == 200
    world.resource.tokens.clear()
    assert await world.status(client) == 200
    assert ["basic" if basic else "post" for basic in world.authority.basic] == [*tried, "post"]
    assert world.authority.forms[-1]["client_secret"] == SECRET
    assert world.authority.forms[-1]["client_id"] == CLIENT


async def test_a_method_that_no_longer_works_is_not_kept(world: Any) -> None:
    world.protect()
    world.authority.publish()
    world.authority.methods = {"client_secret_post"}
    client = world.client()
    assert await world.status(client) == 200
    world.authority.methods = {"client_secret_basic"}
    world.resource.tokens.clear()
    assert "invalid_client" in await world.refusal(client)
    client.tokens._renewals.until = 0.0  # the wait is over
    assert await world.status(client) == 200
    assert ["basic" if basic else "post" for basic in world.authority.basic] == ["basic", "post", "post", "basic"]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_configured_method_is_the_only_one(world: Any, method: str) -> None:
    world.protect()
    world.authority.publish(token_endpoint_auth_methods_supported=["private_key_jwt"])
    assert await world.status(world.client(token_endpoint_auth_method=method)) == 200
    basic, form = world.authority.basic[0], world.authority.forms[0]
    assert (basic, form.get("client_secret")) == (
        (f"{CLIENT}:{SECRET}", None) if method == "client_secret_basic" else ("", SECRET)
    )


async def test_a_public_client_sends_its_identifier_alone(world: Any) -> None:
    world.protect()
    world.authority.publish()
    assert await world.status(world.client(token_endpoint_auth_method="none")) == 200
    assert world.authority.basic == [""]
    assert world.authority.forms == [
        {"grant_type": "client_credentials", "client_id": CLIENT, "resource": f"{world.resource.origin}/mcp"}
    ]


@pytest.mark.parametrize(
    ("make", "configured", "algorithm"),
    [
        (lambda: EC_KEY, None, "ES256"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), None, "ES512"),
        (ed25519.Ed25519PrivateKey.generate, None, "EdDSA"),
        (lambda: rsa.generate_private_key(65537, 2048), None, "RS256"),
        (lambda: rsa.generate_private_key(65537, 2048), "PS384", "PS384"),
    ],
)
async def test_a_key_signs_an_assertion_for_the_issuer(
    world: Any, make: Callable[[], Any], configured: str | None, algorithm: str
) -> None:
    key = make()
    world.protect()
    issuer = world.authority.publish()
    client = world.client(private_key=pem(key), key_id="k1", signing_algorithm=configured)
    assert await world.status(client) == 200
    form = world.authority.forms[0]
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert "client_secret" not in form
    assert world.authority.basic == [""]
    assertion = form["client_assertion"]
    assert jwt.get_unverified_header(assertion) == {"alg": algorithm, "kid": "k1", "typ": "JWT"}
    claims = jwt.decode(assertion, key.public_key(), algorithms=[algorithm], audience=issuer)
    assert (claims["iss"], claims["sub"]) == (CLIENT, CLIENT)
    assert claims["exp"] - claims["iat"] == 60


async def test_an_assertion_is_used_once(world: Any) -> None:
    world.protect()
    world.authority.publish()
    client = world.client(private_key=pem(EC_KEY))
    assert await world.status(client) == 200
    world.resource.tokens.clear()
    assert await world.status(client) == 200
    first, second = (
        jwt.decode(form["client_assertion"], options={"verify_signature": False}) for form in world.authority.forms
    )
    assert first["jti"] != second["jti"]


@pytest.mark.parametrize("issuer", [None, "https://auth.example.com"])
async def test_the_audience_of_a_configured_endpoint_is_the_issuer_or_itself(world: Any, issuer: str | None) -> None:
    world.authority.publish()
    url = f"{world.authority.origin}/token"
    assert await world.status(world.client(private_key=pem(EC_KEY), token_url=url, issuer=issuer)) == 200
    jwt.decode(
        world.authority.forms[0]["client_assertion"],
        EC_KEY.public_key(),
        algorithms=["ES256"],
        audience=issuer or url,
    )


async def test_the_resource_is_the_upstreams_url_without_what_may_be_secret(world: Any) -> None:
    world.authority.publish()
    url = f"{world.resource.origin}/mcp?key=hidden"
    assert await world.status(world.client(url=url, token_url=f"{world.authority.origin}/token")) == 200
    assert world.authority.forms[0]["resource"] == f"{world.resource.origin}/mcp"


@pytest.mark.parametrize(("configured", "sent"), [("https://mcp.example.com", "https://mcp.example.com"), ("", None)])
async def test_a_configured_resource_is_sent_as_it_is(world: Any, configured: str, sent: str | None) -> None:
    world.protect()
    world.authority.publish()
    assert await world.status(world.client(resource=configured)) == 200
    assert world.authority.forms[0].get("resource") == sent
