"""Reads a token before its signature is verified (RFC 7515, RFC 7519).

Nothing of the token is trusted here: header and claims only choose the issuer and the key. Headers that bring or name
a key (`jwk`, `jku`, `x5c`, `x5u`) are not read.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any, Final

from gateway_auth_jwt.strict_json import parse_object

MAX_TOKEN: Final = 8 * 1024
"""Maximum characters of a token."""
MAX_KEY_ID: Final = 256
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHAPE: Final = re.compile(r"e[w-z0-9_-][^.]*(?:\.[^.]*){2}(?:(?:\.[^.]*){2})?")
"""Three or five segments, of which the first begins with the base64url form of `{`."""


class InvalidToken(Exception):
    """A token proves nothing. The text tells the operator why; it has no part of the token but short, quoted claims."""


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """A token with a valid form."""

    text: str = field(repr=False)
    algorithm: str
    key_id: str | None
    type: str
    """The header `typ` in lower case, without `application/`; `jwt` if it is missing (RFC 7515, section 4.1.9)."""
    issuer: str
    claims: dict[str, Any] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> UnverifiedToken:
        """Raises `InvalidToken`."""
        if len(text) > MAX_TOKEN:
            raise InvalidToken(f"it is longer than {MAX_TOKEN} characters")
        segments = text.split(".")
        if len(segments) != 3:
            raise InvalidToken("it is encrypted, or not a JWT")
        header = _object(segments[0], "header")
        claims = _object(segments[1], "payload")
        _decoded(segments[2], "signature")
        if "crit" in header or "b64" in header:
            raise InvalidToken("its header requires an extension that is not supported (crit)")
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not isinstance(algorithm, str):
            raise InvalidToken("its header has no alg")
        if not (key_id is None or (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID)):
            raise InvalidToken("its kid is not a text of usual length")
        if not isinstance(kind, str):
            raise InvalidToken("its typ is not a text")
        issuer = claims.get("iss")
        if not isinstance(issuer, str):
            raise InvalidToken("it names no issuer (iss)")
        for name in ("exp", "nbf", "iat"):
            if name in claims and (isinstance(claims[name], bool) or not isinstance(claims[name], int | float)):
                raise InvalidToken(f"its claim {name} is not a number")
        return cls(text, algorithm, key_id, kind.lower().removeprefix("application/"), issuer, claims)


def is_jwt(text: str) -> bool:
    """Whether a bearer token looks like a JWT, valid or not. Opaque tokens and API keys do not."""
    return _SHAPE.fullmatch(text) is not None


def quoted(value: object) -> str:
    """A value from a token, for a message: printable and short."""
    shown = ascii(value)
    return shown if len(shown) <= 160 else f"{shown[:160]}…"


def _object(segment: str, what: str) -> dict[str, Any]:
    try:
        return parse_object(_decoded(segment, what))
    except ValueError as problem:
        reason = "it is not UTF-8" if isinstance(problem, UnicodeError) else "it is not a well-formed JSON object"
        raise InvalidToken(f"its {what} cannot be read: {reason}") from None


def _decoded(segment: str, what: str) -> bytes:
    """Decode base64url without padding; each content has one accepted form."""
    try:
        found = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)) if _SEGMENT.fullmatch(segment) else b""
    except ValueError:
        found = b""
    if not found or base64.urlsafe_b64encode(found).rstrip(b"=").decode() != segment:
        raise InvalidToken(f"its {what} is not base64url")
    return found
