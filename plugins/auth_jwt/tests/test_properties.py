"""Whatever a token or a key set holds, the plugin gives a verdict."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from gateway_auth_jwt.key_set import KeySet
from gateway_auth_jwt.plugin import Jwt
from gateway_auth_jwt.token import InvalidToken, UnverifiedToken, is_jwt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_core import Principal, Reject
from gateway_core.testing import configured, make_credentials

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
CLAIMS = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scp", "groups", "cnf", "_claim_names", "at_hash"]
HEADERS = ["typ", "kid", "alg", "crit", "b64", "jwk", "cty"]
FIXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def plugin(authority: Any, tmp_path: Path) -> Any:
    table = {"issuer": authority.issuer, "jwks_file": authority.write(tmp_path)}
    return configured(Jwt, audience=authority.audience, issuers=[table]).instance


@FIXED
@given(changes=st.dictionaries(st.sampled_from(CLAIMS) | st.text(max_size=10), JSON, max_size=4))
def test_a_signed_token_with_any_claims_gets_a_verdict(authority: Any, plugin: Any, changes: dict[str, Any]) -> None:
    payload = json.dumps(authority.claims(**changes)).encode()
    key = authority.keys[0]
    token = jwt.api_jws.encode(payload, key.private, key.algorithm, {"typ": "at+jwt", "kid": key.id})
    verdict = asyncio.run(plugin.authenticate(make_credentials(f"Bearer {token}")))
    assert isinstance(verdict, Principal | Reject)
    if isinstance(verdict, Principal):
        json.dumps(dict(verdict.claims)).encode()
        assert (verdict.subject, verdict.issuer) == (authority.claims(**changes)["sub"], authority.issuer)
        assert all(isinstance(name, str) for name in (*verdict.groups, *verdict.scopes))


@FIXED
@given(changes=st.dictionaries(st.sampled_from(HEADERS) | st.text(max_size=10), JSON, max_size=3))
def test_a_token_with_any_header_gets_a_verdict(authority: Any, plugin: Any, changes: dict[str, Any]) -> None:
    header = json.dumps({"alg": "ES256", "kid": "one", "typ": "at+jwt", **changes}).encode()
    encoded = jwt.utils.base64url_encode(header).decode()
    token = f"{encoded}.{authority.token().partition('.')[2]}"
    assert isinstance(asyncio.run(plugin.authenticate(make_credentials(f"Bearer {token}"))), Reject)


@FIXED
@given(text=st.text(max_size=200) | st.from_regex(r"e[w-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*){1,4}", fullmatch=True))
def test_any_text_is_refused_or_left_to_others(text: str) -> None:
    is_jwt(text)
    with pytest.raises(InvalidToken):
        UnverifiedToken.parse(text)


@FIXED
@given(keys=st.lists(JSON | st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "alg"]), JSON)))
def test_any_key_set_is_read_or_refused(keys: list[Any]) -> None:
    for each in keys:
        if isinstance(each, dict) and "kty" in each:
            each["kty"] = "EC" if len(keys) % 2 else "RSA"
    with contextlib.suppress(ValueError):
        assert 0 < len(KeySet.parse(json.dumps({"keys": keys}).encode())) <= len(keys)
