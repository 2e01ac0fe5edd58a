"""Key sets: which keys verify which signatures."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gateway_auth_jwt.key_set import KeySet
from gateway_auth_jwt.strict_json import parse_object


def key_set(*keys: Any) -> KeySet:
    return KeySet.parse(json.dumps({"keys": keys}).encode())


def test_keys_for_other_purposes_are_left_out(authority: Any) -> None:
    good = authority.keys[0].jwk
    others = [
        {**good, "kid": "e", "use": "enc"},
        {**good, "kid": "s", "key_ops": ["sign"]},
        {**good, "kid": "n", "key_ops": "verify"},
        {**good, "kid": "x", "x": "AAAA"},
        {**good, "kid": "c", "crv": "P-999"},
        {**good, "kid": 5},
        {**good, "kid": "u", "alg": ["ES256"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "h", "alg": "HS256"},
        {"kty": "RSA", "kid": "r"},
        {"kty": "RSA", "kid": "r", "n": 5, "e": "AQAB"},
        {"kty": ["EC"]},
        {"kty": "EC"},
        {},
        "key",
        None,
    ]
    found = key_set(*others, {**good, "key_ops": ["verify"]})
    assert len(found) == 1
    assert [key.id for key in found.find("one", "ES256")] == ["one"]


@pytest.mark.parametrize("bits", [1024, 2040])
def test_a_short_rsa_key_is_left_out(bits: int) -> None:
    private = rsa.generate_private_key(65537, bits)
    jwk = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(private.public_key()))
    with pytest.raises(ValueError, match="no key that verifies"):
        key_set({**jwk, "kid": "one"})


def test_a_private_key_is_used_as_its_public_one(authority: Any) -> None:
    key = authority.make_key("one", "RS256")
    private = json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(key.private))
    assert "d" in private
    (found,) = key_set({**private, "kid": "one", "key_ops": ["verify"]}).find("one", "RS256")
    assert not hasattr(found.key, "decrypt")


def test_a_key_is_used_only_for_its_kind_of_algorithm(authority: Any) -> None:
    algorithms = ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "none"]
    fitting = {
        "RS256": {"RS256", "PS512"},
        "ES256": {"ES256"},
        "ES384": {"ES384"},
        "ES512": {"ES512"},
        "EdDSA": {"EdDSA"},
        "Ed448": {"EdDSA"},
    }
    for made, expected in fitting.items():
        jwk = {**authority.make_key("one", made).jwk}
        del jwk["alg"]
        keys = key_set(jwk)
        assert {algorithm for algorithm in algorithms if keys.find("one", algorithm)} == expected


def test_the_algorithm_that_a_key_names_is_its_only_one(authority: Any) -> None:
    keys = key_set(authority.make_key("one", "RS256").jwk)
    assert keys.find("one", "RS256")
    assert not keys.find("one", "PS256")


def test_objects_with_repeated_names_or_odd_values_are_refused() -> None:
    assert parse_object(b'{"a": [1, 2.5, null, {"b": "\\ud83d\\ude00"}]}') == {"a": [1, 2.5, None, {"b": "😀"}]}
    for odd in (
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": 9223372036854775808}',
        b'{"a": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": "\xff"}',
        b'{"a": 1} {}',
        b"[" * 100_000,
        b'{"a": ' + b"[" * 16 + b"]" * 16 + b"}",
        b"[]",
        b"",
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - one kind of error for callers
            parse_object(odd)
