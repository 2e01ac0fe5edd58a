"""The keys of `[mcp.proxy.upstreams.auth]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway_core.config import AuthConfig, loads
from gateway_core.config.keys import algorithms
from gateway_core.config.rules import leads_to_gateway
from gateway_core.errors import ConfigError

HEAD = """\
[mcp.proxy]
enable = true
[[mcp.proxy.upstreams]]
name = "web"
transport = "http"
url = "https://mcp.example.com/mcp"
[mcp.proxy.upstreams.auth]
client_id = "c"
"""
SECRET = 'client_secret = "${S}"\n'
KEY = 'private_key = "${K}"\n'


def pem(key: object, passphrase: bytes | None = None) -> str:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()


EC_KEY = ec.generate_private_key(ec.SECP256R1())
ENV = {"S": "s3cr3t", "K": pem(EC_KEY)}


def auth(text: str) -> AuthConfig:
    found = loads(HEAD + text, Path("x.toml"), ENV).proxy.upstreams[0].auth
    assert found is not None
    return found


def problem(text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + text, Path("x.toml"), {**ENV, **env})
    assert len(caught.value.problems) == 1, caught.value.problems
    return caught.value.problems[0]


def test_a_token_url_is_not_needed() -> None:
    assert (auth(SECRET).token_url, auth(SECRET).issuer) == (None, None)


def test_a_key_is_read_and_hidden() -> None:
    found = auth(KEY + 'key_id = "k1"\nsigning_algorithm = "ES256"')
    assert found.private_key is not None
    assert found.private_key.get_secret_value() == ENV["K"]
    assert "BEGIN" not in repr(found)


def test_a_client_without_proof_says_so() -> None:
    assert auth('token_endpoint_auth_method = "none"').client_secret is None
    assert "auth.client_secret" in problem("")
    assert 'token_endpoint_auth_method = "none"' in problem("")


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (SECRET + KEY, "private_key", "only one can be used"),
        (SECRET + 'token_endpoint_auth_method = "none"', "client_secret", "is not used"),
        (SECRET + KEY + 'token_endpoint_auth_method = "private_key_jwt"', "client_secret", "is not used"),
        ('token_endpoint_auth_method = "client_secret_post"', "client_secret", "is required"),
        ('token_endpoint_auth_method = "private_key_jwt"', "private_key", "is required"),
        (SECRET + 'token_endpoint_auth_method = "client_secret_jwt"', "token_endpoint_auth_method", "must be one of"),
        (SECRET + 'signing_algorithm = "ES256"', "signing_algorithm", "no effect without private_key"),
        (SECRET + 'key_id = "k"', "key_id", "no effect without private_key"),
        (KEY + 'signing_algorithm = "RS256"', "signing_algorithm", "which signs with ES256"),
        (KEY + 'signing_algorithm = "HS256"', "signing_algorithm", "must be one of"),
        (SECRET + 'issuer = "http://auth.example.com"', "issuer", "https://"),
        (SECRET + 'issuer = "https://auth.example.com?a=b"', "issuer", "query"),
        (SECRET + 'resource = "mcp.example.com"', "resource", "absolute"),
        ('private_key = "${S}"', "private_key", "private key in PEM"),
    ],
)
def test_what_does_not_go_together_is_refused(text: str, key: str, message: str) -> None:
    found = problem(text)
    assert f"auth.{key}: " in found
    assert message in found
    assert "s3cr3t" not in found


@pytest.mark.parametrize("url", ["https://auth.example.com/tenant", "http://localhost:9", "http://127.0.0.1:9/a"])
def test_an_issuer_is_https_or_loopback(url: str) -> None:
    assert auth(SECRET + f'issuer = "{url}"').issuer == url


def test_an_empty_resource_is_one() -> None:
    assert auth(SECRET + 'resource = ""').resource == ""


@pytest.mark.parametrize(
    ("make", "possible"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), ("ES384",)),
        (lambda: ec.generate_private_key(ec.SECP521R1()), ("ES512",)),
        (ed25519.Ed25519PrivateKey.generate, ("EdDSA",)),
        (lambda: rsa.generate_private_key(65537, 2048), ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    ],
)
def test_a_key_signs_with_the_algorithms_of_its_kind(make: Callable[[], object], possible: tuple[str, ...]) -> None:
    assert algorithms(pem(make())) == possible


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (lambda: pem(dsa.generate_private_key(1024)), "RSA, P-256"),
        (lambda: pem(ec.generate_private_key(ec.SECP256K1())), "RSA, P-256"),
        (lambda: pem(EC_KEY, b"passphrase"), "without a passphrase"),
        (
            lambda: EC_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
            "private key",
        ),
        (str, "private key in PEM"),
    ],
)
def test_other_keys_are_refused(make: Callable[[], str], message: str) -> None:
    assert message in problem('private_key = "${P}"', P=make())


OWN = """\
[mcp.proxy]
enable = true
port = 3456
{}
[[mcp.proxy.upstreams]]
name = "me"
transport = "http"
url = "{}"
"""


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("http://localhost:3456/mcp", ""),
        ("http://127.0.0.1:3456", ""),
        ("http://[::1]:3456/sse/", 'host = "0.0.0.0"'),
        ("http://192.0.2.7:3456/mcp", 'host = "192.0.2.7"'),
    ],
)
def test_the_gateway_is_not_its_own_upstream(url: str, more: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(OWN.format(more, url), Path("x.toml"), {})
    (found,) = [one for one in caught.value.problems if "own upstream" in str(one)]
    assert "mcp.proxy.upstreams[0].url" in str(found)
    assert url not in str(found)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://localhost:3457/mcp", "127.0.0.1", 3456),
        ("http://localhost:3456/other", "127.0.0.1", 3456),
        ("http://localhost/mcp", "127.0.0.1", 3456),
        ("http://mcp.example.com:3456/mcp", "0.0.0.0", 3456),
        ("http://localhost:3456/mcp", "192.0.2.7", 3456),
        ("http://localhost:x/mcp", "127.0.0.1", 3456),
    ],
)
def test_another_address_is_another_server(url: str, host: str, port: int) -> None:
    assert not leads_to_gateway(url, host, port)


def test_an_upstream_that_is_switched_off_may_have_the_own_address() -> None:
    text = OWN.format("", "http://localhost:3456/mcp") + "enabled = false\n"
    assert len(loads(text, Path("x.toml"), {}).disabled) == 1


# -- logins ---------------------------------------------------------------------------------------------------------

LOGIN = HEAD.replace('client_id = "c"\n', 'grant = "authorization_code"\n')
DOCUMENT = 'client_metadata_url = "https://example.com/client.json"\n'
ENDPOINTS = 'token_url = "https://auth.example.com/token"\nauthorization_url = "https://auth.example.com/authorize"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        'client_id = "c"\n',
        'client_id = "c"\n' + SECRET,
        'client_id = "c"\n' + KEY,
        'client_id = "c"\n' + ENDPOINTS,
        'client_id = "c"\ntoken_endpoint_auth_method = "none"\n',
        DOCUMENT,
        DOCUMENT + KEY,
        'redirect_uri = "http://localhost:8765/callback"\nscope = "a b"\nissuer = "https://auth.example.com"\n',
    ],
)
def test_a_login_needs_nothing_and_takes_much(text: str) -> None:
    found = loads(LOGIN + text, Path("x.toml"), ENV).proxy.upstreams[0].auth
    assert found is not None
    assert found.grant == "authorization_code"


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (SECRET, "client_secret", "add its client_id"),
        (KEY, "private_key", "add its client_id"),
        ('token_endpoint_auth_method = "none"', "token_endpoint_auth_method", "add its client_id"),
        ('client_id = "c"\n' + DOCUMENT, "client_metadata_url", "remove one"),
        (DOCUMENT + SECRET, "client_secret", "cannot be used with client_metadata_url"),
        ('client_id = "c"\n' + ENDPOINTS.splitlines()[0], "authorization_url", "is required beside token_url"),
        ('client_id = "c"\n' + ENDPOINTS.splitlines()[1], "token_url", "is required beside authorization_url"),
        (ENDPOINTS, "client_id", "is required beside token_url"),
        ('client_id = "c"\n' + SECRET + KEY, "private_key", "only one can be used"),
        ('client_metadata_url = "http://example.com/c.json"', "client_metadata_url", "https:// URL with a path"),
        ('client_metadata_url = "https://example.com"', "client_metadata_url", "https:// URL with a path"),
        ('redirect_uri = "https://gateway.example.com/callback"', "redirect_uri", "on this machine"),
        ('redirect_uri = "http://192.0.2.1/callback"', "redirect_uri", "on this machine"),
        ('redirect_uri = "http://127.0.0.1/callback?a=b"', "redirect_uri", "without a query"),
        ('grant = "implicit"', "grant", "must be one of"),
    ],
)
def test_keys_of_a_login_that_do_not_fit_are_refused(text: str, key: str, words: str) -> None:
    head = LOGIN.replace('grant = "authorization_code"\n', "") if text.startswith("grant") else LOGIN
    with pytest.raises(ConfigError) as caught:
        loads(head + text, Path("x.toml"), ENV)
    found = [one for one in caught.value.problems if f"auth.{key}: " in one]
    assert len(found) == 1, caught.value.problems
    assert words in found[0]


@pytest.mark.parametrize(
    "text", [ENDPOINTS.splitlines()[1], DOCUMENT, 'redirect_uri = "http://127.0.0.1/callback"', 'identity = "user"']
)
def test_keys_of_a_login_have_no_effect_without_one(text: str) -> None:
    assert "has no effect without grant" in problem(SECRET + text)


def test_client_credentials_need_a_client_id_and_a_missing_one_names_the_other_grant() -> None:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD.replace('client_id = "c"\n', "") + SECRET, Path("x.toml"), ENV)
    assert 'grant = "authorization_code"' in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "identity_header: has no effect without networks"),
        ("networks = []", "identity_header: has no effect without networks"),
        ('networks = ["10.0.0.1", "0.0.0.0/0"]', "networks: contains every address"),
        ('networks = ["::/0"]', "networks: contains every address"),
    ],
)
def test_who_may_name_people_is_said_and_is_not_everybody(keys: str, problem: str) -> None:
    table = '[mcp.proxy]\nenable = true\n[mcp.proxy.trusted_proxies]\nidentity_header = "X-User"\n'
    with pytest.raises(ConfigError) as caught:
        loads(table + keys, Path("x.toml"), {})
    assert f"mcp.proxy.trusted_proxies.{problem}" in str(caught.value)
    found = loads(f'{table}networks = ["10.0.0.1"]\n', Path("x.toml"), {})
    assert found.proxy.trusted_proxies.identity_header == "X-User"
