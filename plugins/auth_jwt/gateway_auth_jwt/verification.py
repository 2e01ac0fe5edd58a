"""Verifies the signature of a token and the claims that every access token has (RFC 7519, RFC 9068)."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import jwt

from gateway_auth_jwt.key_set import PublicKey
from gateway_auth_jwt.token import InvalidToken, UnverifiedToken, quoted
from gateway_core import ClientCertificate, Principal

_REQUIRED: Final = ("iss", "exp", "aud", "sub")
"""The claims of RFC 9068, section 2.2, that say whose token it is, for whom, and for how long. Several providers leave
out others (`client_id`, `iat`, `jti`), on which nothing here depends."""
_ID_TOKEN_ONLY: Final = ("at_hash", "c_hash")
"""Claims that only ID tokens have (OpenID Connect Core, section 3.3.2.11); those are not for resource servers."""
_VERIFIER: Final = jwt.PyJWT()


def verify(
    token: UnverifiedToken, keys: Iterable[PublicKey], audiences: Sequence[str], leeway: float
) -> dict[str, Any]:
    """The claims of a token that one of `keys` signed for one of `audiences`. Raises `InvalidToken`.

    `leeway`: seconds by which clocks may differ.
    """
    failure = InvalidToken("its signature is not valid")
    for key in keys:
        try:
            _VERIFIER.decode(
                token.text,
                key.key,
                algorithms=[token.algorithm],
                audience=audiences,
                issuer=token.issuer,
                leeway=leeway,
                options={"require": list(_REQUIRED)},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as problem:
            failure = InvalidToken(_explained(problem, token.claims))
            break
        _check_claims(token)
        return token.claims
    raise failure


def check_confirmation(claims: dict[str, Any], certificate: ClientCertificate | None) -> None:
    """Check that a token that is bound to a key comes from the holder of that key. Raises `InvalidToken`.

    A client certificate can be checked (RFC 8705, section 3.1). Any other key cannot: such a token is not a bearer
    token (RFC 9449, section 7.2).
    """
    if "cnf" not in claims:
        return
    confirmation = claims["cnf"]
    if not isinstance(confirmation, dict) or set(confirmation) != {"x5t#S256"}:
        raise InvalidToken("it is bound to a key (cnf) in a way that cannot be checked")
    if certificate is None:
        raise InvalidToken("it is bound to a client certificate, and the client has none")
    thumbprint = base64.urlsafe_b64encode(bytes.fromhex(certificate.fingerprint)).rstrip(b"=").decode()
    if confirmation["x5t#S256"] != thumbprint:
        raise InvalidToken("it is bound to the certificate of another client")


def _check_claims(token: UnverifiedToken) -> None:
    """Check what the library does not check. Raises `InvalidToken`."""
    claims = token.claims
    subject = claims["sub"]
    if not (isinstance(subject, str) and 0 < len(subject) <= Principal.MAX_SUBJECT and subject.isprintable()):
        raise InvalidToken(f"its subject (sub) is empty, longer than {Principal.MAX_SUBJECT}, or not printable")
    for name in _ID_TOKEN_ONLY:
        if name in claims:
            raise InvalidToken(f"it is an ID token, because it has the claim {name}; an access token is needed")


def _explained(problem: jwt.PyJWTError, claims: dict[str, Any]) -> str:
    match problem:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet; compare the clocks of both machines"
        case jwt.InvalidAudienceError():
            return f"it is for another audience (aud): {quoted(claims.get('aud'))}"
        case jwt.MissingRequiredClaimError():
            return f"it has no claim {problem.claim}"
        case _:
            return f"it is not valid ({type(problem).__name__})"
