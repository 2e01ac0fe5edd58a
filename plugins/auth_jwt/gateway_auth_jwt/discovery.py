"""Finds the keys of an issuer by its metadata (basic/authorization, Authorization Server Metadata Discovery)."""

from __future__ import annotations

from typing import Final

from yarl import URL

from gateway_auth_jwt.fetcher import Fetcher, FetchError
from gateway_auth_jwt.strict_json import parse_object

_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


async def find_jwks_uri(fetcher: Fetcher, issuer: str) -> URL:
    """The address of the issuer's key set, from the first metadata document about it. Raises `FetchError`."""
    failure = FetchError("its server has no metadata (RFC 8414); configure jwks_uri")
    for place in places(issuer):
        try:
            body = await fetcher.get(place)
            if body is not None:
                return fetcher.address(_jwks_uri(body, issuer))
        except FetchError as problem:
            failure = FetchError(f"its metadata at {place.path} cannot be used: {problem}")
    raise failure


def places(issuer: str) -> list[URL]:
    """The URLs of an issuer's metadata, in the specification's order (RFC 8414, sections 3 and 5)."""
    url = URL(issuer)
    origin, path = url.origin(), url.raw_path.rstrip("/")
    paths = [_OAUTH + path, _OPENID + path, path + _OPENID] if path else [_OAUTH, _OPENID]
    return [URL(f"{origin}{each}", encoded=True) for each in paths]


def _jwks_uri(body: bytes, issuer: str) -> str:
    try:
        metadata = parse_object(body)
    except ValueError:
        raise FetchError("it is not a well-formed JSON object") from None
    if metadata.get("issuer") != issuer:  # must be identical (RFC 8414, section 3.3)
        raise FetchError("it is that of another issuer")
    found = metadata.get("jwks_uri")
    if not isinstance(found, str):
        raise FetchError("it has no jwks_uri")
    return found
