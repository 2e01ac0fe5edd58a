"""The public keys of an issuer (JWKS, RFC 7517)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway_auth_jwt.strict_json import parse_object

if TYPE_CHECKING:
    from jwt.algorithms import AllowedPublicKeys

MAX_KEYS: Final = 100
"""Maximum number of keys in a set."""
MAX_WITHOUT_ID: Final = 4
"""Maximum number of keys to try for a token without `kid`."""
MIN_RSA_BITS: Final = 2048
"""Smallest modulus of an RSA key (RFC 7518, section 3.3)."""
MAX_RSA_BITS: Final = 16384

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""The signature algorithms that can be allowed: all with a public key (RFC 7518, section 3.1; RFC 8037)."""
_CURVES: Final = {
    "ES256": ("P-256",),
    "ES384": ("P-384",),
    "ES512": ("P-521",),
    "EdDSA": ("Ed25519", "Ed448"),
}
_PUBLIC_MEMBERS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
"""The members of each type of key that are public. No others are read."""
_READERS: Final[Mapping[str, Callable[[dict[str, Any]], Any]]] = {
    "RSA": jwt.algorithms.RSAAlgorithm.from_jwk,
    "EC": jwt.algorithms.ECAlgorithm.from_jwk,
    "OKP": jwt.algorithms.OKPAlgorithm.from_jwk,
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key, and what may be verified with it."""

    key: AllowedPublicKeys
    type: str
    """`kty`: `RSA`, `EC` or `OKP`."""
    curve: str | None
    id: str | None
    algorithm: str | None
    """The only algorithm that the key is for, if its issuer says so."""

    def fits(self, algorithm: str) -> bool:
        """Whether a signature by `algorithm` can be verified with this key."""
        if self.algorithm is not None and self.algorithm != algorithm:
            return False
        if algorithm in _CURVES:
            return self.curve in _CURVES[algorithm]
        return self.type == "RSA" and algorithm[:2] in {"RS", "PS"}


class KeySet:
    """The keys of an issuer that verify signatures."""

    def __init__(self, keys: tuple[PublicKey, ...]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    @classmethod
    def parse(cls, data: bytes) -> KeySet:
        """Parse a JWKS document. Keys for other purposes are left out. Raises `ValueError`, also if none is left."""
        try:
            given = parse_object(data).get("keys")
        except ValueError as problem:
            raise ValueError("it is not a well-formed JSON object") from problem
        if not isinstance(given, list):
            raise ValueError("it has no list keys")  # noqa: TRY004 - one kind of error for callers
        if len(given) > MAX_KEYS:
            raise ValueError(f"it has more than {MAX_KEYS} keys")
        found = tuple(key for each in given if (key := _public_key(each)) is not None)
        if not found:
            raise ValueError("it has no key that verifies signatures")
        return cls(found)

    def find(self, key_id: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """The keys that may have signed a token. Without `key_id`: all that fit, unless they are too many to try."""
        fitting = tuple(key for key in self._keys if key.fits(algorithm))
        if key_id is None:
            return fitting if len(fitting) <= MAX_WITHOUT_ID else ()
        return tuple(key for key in fitting if key.id == key_id)[:MAX_WITHOUT_ID]


def _public_key(given: Any) -> PublicKey | None:
    """The key in one JWK; None if it cannot verify signatures, or is malformed."""
    if not (isinstance(given, dict) and _is_for_signatures(given)):
        return None
    kind = given["kty"]
    members = {name: given[name] for name in _PUBLIC_MEMBERS[kind] if name in given}
    try:
        key: Any = _READERS[kind]({"kty": kind, **members})
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return None
    return PublicKey(key, kind, members.get("crv"), given.get("kid"), given.get("alg"))


def _is_for_signatures(given: dict[str, Any]) -> bool:
    """Whether the members of a JWK say that it verifies signatures (RFC 7517, sections 4.1 to 4.5)."""
    operations = given.get("key_ops", ["verify"])
    return (
        given.get("kty") in tuple(_PUBLIC_MEMBERS)
        and given.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and all(isinstance(given.get(name, ""), str) for name in ("kid", "alg"))
    )
