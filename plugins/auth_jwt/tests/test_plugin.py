"""`auth_jwt`: real signed tokens, valid and not, and what the plugin publishes."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from gateway_auth_jwt.plugin import Jwt
from jwt.algorithms import RSAAlgorithm

from gateway_core import ClientCertificate, Principal, Reject
from gateway_core.testing import configured, make_credentials, run_hook

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed448"]


@pytest.fixture
def offline(authority: Any, judge: Any, tmp_path: Path) -> Any:
    """Judges tokens with the keys of `authority` in a file."""

    async def judged(token: str, issuer: dict[str, Any] | None = None, **settings: Any) -> Principal | Reject | None:
        path = authority.write(tmp_path)
        return await judge(authority, token, issuer={"jwks_file": path, **(issuer or {})}, **settings)

    return judged


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: Any, claims: Any, signature: bytes = b"none") -> str:
    return f"{segment(header)}.{segment(claims)}.{segment(signature)}"


NOW = time.time()


def as_of_now(claims: dict[str, Any]) -> dict[str, Any]:
    """Claims whose times are given relative to `NOW`, moved to the present time."""
    shift = time.time() - NOW
    return {name: value + shift if isinstance(value, float) else value for name, value in claims.items()}


# -- valid tokens -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_each_algorithm_proves_its_subject(authority: Any, offline: Any, algorithm: str) -> None:
    authority.keys = [authority.make_key("other"), authority.make_key("mine", algorithm)]
    allowed = {"algorithms": [authority.keys[1].algorithm]}
    found = await offline(authority.token(authority.keys[1], exp=4e9), issuer=allowed)
    assert found.id == "alice|https://login.example.com"
    assert (found.verified, found.subject, found.issuer) == (True, "alice", "https://login.example.com")
    assert found.scopes == {"mcp", "files.read"}
    assert found.expires == 4e9 + 30
    assert found.claims["client_id"] == "agent"
    # The same token is refused where its algorithm is not allowed.
    others = {"algorithms": [other for other in ALGORITHMS[:-1] if other != authority.keys[1].algorithm]}
    assert isinstance(await offline(authority.token(authority.keys[1]), issuer=others), Reject)


async def test_an_algorithm_that_is_not_in_the_default_must_be_allowed(authority: Any, offline: Any) -> None:
    authority.keys = [authority.make_key("one", "ES512")]
    assert isinstance(await offline(authority.token()), Reject)
    assert isinstance(await offline(authority.token(), issuer={"algorithms": ["ES512"]}), Principal)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["https://other.example.com", "https://gateway.example.com/mcp"]},
        {"exp": NOW + 100.5, "nbf": NOW - 1},
        {"nbf": NOW + 20, "iat": NOW + 20},
        {"exp": NOW - 5},
        {"sub": "auth0|5f7c8ec7c33c6c004bbafe82"},
        {"sub": "a" * 512},
        {"_claim_names": {"manager": "src1"}, "hasgroups": False},
        {"_claim_names": ["groups"], "hasgroups": True, "groups": ["staff"]},
        {"scope": ..., "client_id": ..., "iat": ..., "jti": ...},
    ],
)
async def test_forms_of_claims_that_are_valid(authority: Any, offline: Any, changes: dict[str, Any]) -> None:
    assert isinstance(await offline(authority.token(**as_of_now(changes))), Principal)


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", "jwt", None])
async def test_the_type_of_an_access_token_is_accepted_however_it_is_written(
    authority: Any, offline: Any, kind: str | None
) -> None:
    assert isinstance(await offline(authority.token(headers={"typ": kind})), Principal)


async def test_the_type_at_jwt_can_be_required(authority: Any, offline: Any) -> None:
    strict = {"token_types": ["application/AT+jwt"]}
    assert isinstance(await offline(authority.token(), issuer=strict), Principal)
    for kind in ("JWT", None):
        assert isinstance(await offline(authority.token(headers={"typ": kind}), issuer=strict), Reject)


async def test_keys_that_the_header_brings_are_ignored(authority: Any, offline: Any) -> None:
    thief = authority.make_key("one")
    brought = {"jwk": thief.jwk, "jku": "https://evil.example", "x5u": "https://evil.example", "x5c": ["AAAA"]}
    assert isinstance(await offline(authority.token(headers=brought)), Principal)
    assert isinstance(await offline(authority.token(thief, headers=brought)), Reject)
    assert isinstance(await offline(authority.token(thief, headers={**brought, "kid": "two"})), Reject)


async def test_a_token_without_kid_is_tried_with_the_keys_that_fit(authority: Any, offline: Any) -> None:
    authority.keys = [authority.make_key("one"), authority.make_key("rsa", "RS256"), authority.make_key("two")]
    assert isinstance(await offline(authority.token(authority.keys[2], headers={"kid": None})), Principal)
    thief = authority.make_key("three")
    assert isinstance(await offline(authority.token(thief, headers={"kid": None})), Reject)
    authority.keys += [authority.make_key(str(number)) for number in range(3)]
    assert isinstance(await offline(authority.token(authority.keys[2], headers={"kid": None})), Reject)


async def test_the_audience_of_an_issuer_replaces_that_of_the_gateway(authority: Any, offline: Any) -> None:
    own = {"audience": ["api://gateway", "8a5e"]}
    assert isinstance(await offline(authority.token(aud="8a5e"), issuer=own), Principal)
    assert isinstance(await offline(authority.token(), issuer=own), Reject)


@pytest.mark.parametrize("audience", ["https://gateway.example.com", "https://gateway.example.com/"])
async def test_without_a_path_a_slash_at_the_end_makes_no_difference(
    authority: Any, offline: Any, audience: str
) -> None:
    for form in ("https://gateway.example.com", "https://gateway.example.com/"):
        assert isinstance(await offline(authority.token(aud=form), audience=audience), Principal)
    assert isinstance(await offline(authority.token(), audience=audience), Reject)


async def test_scopes_and_groups_come_from_the_configured_claims(authority: Any, offline: Any) -> None:
    places = {
        "scopes_from": ["scp", "roles"],
        "groups_from": ["https://example.com/groups", ["realm_access", "roles"], ["absent", "names"]],
    }
    claims = {
        "scp": "mcp  a",
        "roles": ["b"],
        "https://example.com/groups": "one group",
        "realm_access": {"roles": ["staff", "admins"]},
    }
    found = await offline(authority.token(**claims), issuer=places)
    assert found.scopes == {"mcp", "a", "b"}
    assert found.groups == {"one group", "staff", "admins"}
    found = await offline(authority.token(groups=["staff"]))
    assert (found.scopes, found.groups) == ({"mcp", "files.read"}, {"staff"})


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\t", ","])
async def test_only_a_space_separates_scopes(authority: Any, offline: Any, space: str) -> None:
    refused = await offline(authority.token(scope=f"x{space}mcp"), required_scopes=["mcp"])
    assert isinstance(refused, Reject)


async def test_a_token_needs_the_required_scopes(authority: Any, offline: Any) -> None:
    required = {"required_scopes": ["mcp", "files.read"]}
    assert isinstance(await offline(authority.token(), **required), Principal)
    refused = await offline(authority.token(scope="mcp"), **required)
    assert refused == Reject("the token is refused: it has no scope files.read; it has ['mcp']")


def certificate(fingerprint: str) -> ClientCertificate:
    return ClientCertificate("CN=agent", fingerprint=fingerprint)


async def test_a_token_that_is_bound_to_a_certificate_needs_that_certificate(
    authority: Any, judge: Any, tmp_path: Path
) -> None:
    keys = {"jwks_file": authority.write(tmp_path)}
    digest = hashlib.sha256(b"certificate")
    token = authority.token(cnf={"x5t#S256": segment(digest.digest())})
    assert isinstance(await judge(authority, token, certificate(digest.hexdigest()), issuer=keys), Principal)
    assert isinstance(await judge(authority, token, certificate("00" * 32), issuer=keys), Reject)
    assert isinstance(await judge(authority, token, None, issuer=keys), Reject)
    for other in ({"jkt": "abc"}, {"jwk": {}}, "abc", {}, {"x5t#S256": segment(digest.digest()), "jkt": "abc"}):
        bound = authority.token(cnf=other)
        assert isinstance(await judge(authority, bound, certificate(digest.hexdigest()), issuer=keys), Reject)


# -- tokens that prove nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": NOW - 31}, "it has expired"),
        ({"exp": ...}, "it has no claim exp"),
        ({"exp": None}, "its claim exp is not a number"),
        ({"exp": str(int(NOW + 300))}, "its claim exp is not a number"),
        ({"exp": True}, "its claim exp is not a number"),
        ({"exp": [NOW]}, "its claim exp is not a number"),
        ({"nbf": NOW + 600}, "it is not valid yet"),
        ({"nbf": "soon"}, "its claim nbf is not a number"),
        ({"nbf": None}, "its claim nbf is not a number"),
        ({"iat": NOW + 600}, "it is not valid yet"),
        ({"aud": ...}, "it has no claim aud"),
        ({"aud": "https://gateway.example.com"}, "it is for another audience (aud): 'https://gateway.example.com'"),
        ({"aud": "https://gateway.example.com/mcp/"}, "it is for another audience"),
        ({"aud": ["a", 5]}, "it is for another audience"),
        ({"aud": {"https://gateway.example.com/mcp": 1}}, "it is for another audience"),
        ({"aud": []}, "it has no claim aud"),
        ({"aud": "x" * 1000}, "x…"),
        ({"iss": ...}, "it names no issuer"),
        ({"iss": ["https://login.example.com"]}, "it names no issuer"),
        ({"iss": "https://login.example.com/"}, "is not configured: 'https://login.example.com/'"),
        ({"iss": "https://evil.example"}, "is not configured"),
        ({"sub": ...}, "it has no claim sub"),
        ({"sub": ""}, "its subject (sub) is empty"),
        ({"sub": 5}, "it is not valid"),
        ({"sub": "a\nb"}, "not printable"),
        ({"sub": "a" * 513}, "longer than 512"),
        ({"at_hash": "x"}, "it is an ID token"),
        ({"groups": {"staff": True}}, "its claim groups is neither a text nor a list of texts"),
        ({"groups": ["staff", 5]}, "its claim groups is neither"),
        ({"scope": 5}, "its claim scope is neither"),
        ({"scope": " ".join(f"{number:03x}" for number in range(1001))}, "it has more than 1000 groups or scopes"),
        ({"_claim_names": {"groups": "src1"}}, "it leaves out the claim groups"),
        ({"hasgroups": True}, "it leaves out the claim groups"),
        ({"hasgroups": "true"}, "it leaves out the claim groups"),
        ({"deep": json.loads("[" * 20 + "]" * 20)}, "its payload cannot be read"),
        ({"huge": 10**30}, "its payload cannot be read"),
        ({"odd": "\ud800"}, "its payload cannot be read"),
        ({"pad": "x" * 8192}, "it is longer than 8192 characters"),
    ],
)
async def test_a_signed_token_with_bad_claims_is_refused(
    authority: Any, offline: Any, changes: dict[str, Any], reason: str
) -> None:
    refused = await offline(authority.token(**as_of_now(changes)))
    assert isinstance(refused, Reject)
    assert reason in refused.message
    assert len(refused.message) < 400


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"crit": ["exp"], "exp": 5}, "(crit)"),
        ({"crit": ["b64"], "b64": True}, "(crit)"),
        ({"kid": "two"}, "has no such key (kid) for ES256: 'two'"),
        ({"kid": "k" * 257}, "its kid is not"),
        ({"typ": "logout+jwt"}, "its type (typ) is not accepted: 'logout+jwt'"),
        ({"typ": "secevent+jwt"}, "its type (typ) is not accepted"),
        ({"typ": "dpop+jwt"}, "its type (typ) is not accepted"),
        ({"alg": "HS256"}, "(alg) is not allowed: 'HS256'"),
        ({"alg": "none"}, "(alg) is not allowed: 'none'"),
        ({"alg": "NONE"}, "(alg) is not allowed"),
        ({"alg": "RS256"}, "has no such key (kid) for RS256"),
        ({"alg": ["ES256"]}, "its header has no alg"),
        ({"alg": None}, "its header has no alg"),
        ({"alg": "ES256", "kid": 5}, "its kid is not"),
        ({"alg": "ES256", "typ": 5}, "its typ is not"),
    ],
)
async def test_a_token_with_a_bad_header_is_refused(
    authority: Any, offline: Any, headers: dict[str, Any], reason: str
) -> None:
    good = authority.token()
    header = {"typ": "at+jwt", "kid": "one", "alg": "ES256", **headers}
    refused = await offline(f"{segment(header)}.{good.partition('.')[2]}")
    assert isinstance(refused, Reject)
    assert reason in refused.message


async def test_the_public_key_is_no_secret_for_hmac(authority: Any, offline: Any) -> None:
    authority.keys = [authority.make_key("one", "RS256")]
    public = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(authority.keys[0].private.public_key())
    from cryptography.hazmat.primitives import serialization as to

    secrets = [
        public.public_bytes(to.Encoding.PEM, to.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(to.Encoding.DER, to.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(authority.keys[0].jwk).encode(),
    ]
    for algorithm in ("HS256", "RS256"):
        for secret in secrets:
            start = f"{segment({'alg': algorithm, 'kid': 'one', 'typ': 'at+jwt'})}.{segment(authority.claims())}"
            signature = hmac.digest(secret, start.encode(), "sha256")
            assert isinstance(await offline(f"{start}.{segment(signature)}"), Reject)


async def test_a_changed_token_is_refused(authority: Any, offline: Any) -> None:
    header, claims, signature = authority.token().split(".")
    other = segment(authority.claims(sub="root"))
    changed = segment(bytes(reversed(base64.urlsafe_b64decode(signature + "=="))))
    for token in (f"{header}.{other}.{signature}", f"{header}.{claims}.{changed}", f"{header}.{claims}.AA"):
        assert await offline(token) == Reject("the token is refused: its signature is not valid")


async def test_the_key_of_another_issuer_signs_nothing_for_this_one(authority: Any, tmp_path: Path) -> None:
    class Other(type(authority)):  # type: ignore[misc]
        pass

    other = Other("https://other.example.com", [authority.make_key("two")])
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    tables = [
        {"issuer": each.issuer, "jwks_file": each.write(folder)}
        for each, folder in zip((authority, other), folders, strict=True)
    ]
    plugin = configured(Jwt, audience=authority.audience, issuers=tables).instance

    async def judged(token: str) -> Any:
        return await plugin.authenticate(make_credentials(f"Bearer {token}"))  # type: ignore[attr-defined]

    assert (await judged(authority.token())).issuer == authority.issuer
    assert (await judged(other.token())).issuer == other.issuer
    assert isinstance(await judged(other.token(iss=authority.issuer)), Reject)
    assert isinstance(await judged(other.token(iss=authority.issuer, headers={"kid": "one"})), Reject)
    assert isinstance(await judged(authority.token(iss=other.issuer)), Reject)


def garbled() -> dict[str, str]:
    header, claims = {"alg": "ES256", "kid": "one", "typ": "at+jwt"}, {"iss": "https://login.example.com"}
    return {
        "no signature": unsigned(header, claims).rpartition(".")[0] + ".",
        "payload is a text": unsigned(header, "text"),
        "payload is a token": unsigned({**header, "cty": "JWT"}, unsigned(header, claims).encode()),
        "payload is no JSON": unsigned(header, b"{text}"),
        "payload is no UTF-8": unsigned(header, b'{"iss": "\xff"}'),
        "payload is empty": unsigned(header, b""),
        "payload has a name twice": unsigned(header, b'{"iss": "https://login.example.com", "iss": "b"}'),
        "payload has a name twice inside": unsigned(header, b'{"iss": "a", "b": {"c": 1, "c": 2}}'),
        "payload is NaN": unsigned(header, b'{"iss": "a", "exp": NaN}'),
        "payload is infinite": unsigned(header, b'{"iss": "a", "exp": 1e999}'),
        "payload has many digits": unsigned(header, b'{"exp": ' + b"9" * 5000 + b"}"),
        "payload is deep": unsigned(header, b'{"a":' * 1000 + b"1" + b"}" * 1000),
        "header is deep": unsigned(b'{"a":' * 1000 + b"1" + b"}" * 1000, claims),
        "header has a name twice": unsigned(b'{"alg": "none", "alg": "ES256"}', claims),
        "header is no JSON": unsigned(b"{alg}", claims),
        "padding": unsigned(header, claims) + "=",
        "standard base64": f"{segment(header)}.{segment(claims)}.a+/b",
        "white space": f"{segment(header)}. {segment(claims)}.{segment(b'abc')}",
        "spare bits": f"{segment(header)}.{segment(claims)}.AB",
        "one character": f"{segment(header)}.{segment(claims)}.A",
        "not ASCII": f"{segment(header)}.{segment(claims)}.ä",
        "encrypted": ".".join([segment(header)] * 5),
    }


@pytest.mark.parametrize("what", garbled())
async def test_a_token_that_cannot_be_read_is_refused(offline: Any, what: str) -> None:
    refused = await offline(garbled()[what])
    assert isinstance(refused, Reject)
    reasons = ("it is encrypted", "its header cannot be read", "its payload cannot be read", "is not base64url")
    assert any(reason in refused.message for reason in reasons)


@pytest.mark.parametrize(
    "credentials",
    [
        make_credentials(),
        make_credentials("Basic dXNlcjpwYXNz"),
        make_credentials("Bearer"),
        make_credentials("Bearer rk_live_4Zs0vXPpOq"),
        make_credentials("Bearer key.one.two"),
        make_credentials("Bearer eyJ.x"),
        make_credentials("DPoP eyJhbGciOiJFUzI1NiJ9.e30.c2ln"),
        make_credentials(headers={"x-api-key": "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"}),
    ],
)
def test_other_credentials_are_left_to_other_plugins(authority: Any, tmp_path: Path, credentials: Any) -> None:
    table = {"issuer": authority.issuer, "jwks_file": authority.write(tmp_path)}
    plugin = configured(Jwt, audience=authority.audience, issuers=[table]).instance
    assert run_hook(plugin, "authenticate", credentials) is None


# -- what it publishes ------------------------------------------------------------------------------------------------


def published(**settings: Any) -> Any:
    tables = [{"issuer": "https://login.example.com/a"}, {"issuer": "https://b.example/"}]
    return configured(Jwt, **{"audience": "https://gateway.example.com/mcp", "issuers": tables, **settings}).instance


def test_the_challenge_leads_to_the_metadata_and_names_the_scopes() -> None:
    where = 'Bearer resource_metadata="https://gateway.example.com/.well-known/oauth-protected-resource/mcp"'
    assert published().challenges == (where,)
    assert published(required_scopes=["mcp", "a"]).challenges == (f'{where}, scope="mcp a"',)
    both = published(required_scopes=["mcp"], advertised_scopes=["api://gateway/mcp", "offline_access"])
    assert both.challenges == (f'{where}, scope="api://gateway/mcp offline_access"',)
    assert both.well_known["oauth-protected-resource"]["scopes_supported"] == ["api://gateway/mcp", "offline_access"]


def test_the_metadata_is_that_of_rfc_9728() -> None:
    document = {
        "resource": "https://gateway.example.com/mcp",
        "authorization_servers": ["https://login.example.com/a", "https://b.example/"],
        "bearer_methods_supported": ["header"],
    }
    assert published().well_known == {"oauth-protected-resource": document, "oauth-protected-resource/mcp": document}


@pytest.mark.parametrize(
    ("audience", "address", "path"),
    [
        ("https://g.example", "https://g.example/.well-known/oauth-protected-resource", None),
        ("https://g.example/", "https://g.example/.well-known/oauth-protected-resource", None),
        ("https://g.example:8443/mcp", "https://g.example:8443/.well-known/oauth-protected-resource/mcp", None),
        ("https://g.example/a/mcp", "https://g.example/.well-known/oauth-protected-resource/a/mcp", "a/mcp"),
        ("http://127.0.0.1:3000/mcp", "http://127.0.0.1:3000/.well-known/oauth-protected-resource/mcp", None),
    ],
)
def test_the_address_of_the_metadata_follows_from_the_audience(audience: str, address: str, path: str | None) -> None:
    plugin = published(audience=audience)
    assert plugin.challenges == (f'Bearer resource_metadata="{address}"',)
    paths = {"oauth-protected-resource", "oauth-protected-resource/mcp"}
    assert set(plugin.well_known) == paths | ({f"oauth-protected-resource/{path}"} if path else set())
    assert plugin.well_known["oauth-protected-resource"]["resource"] == audience
