"""Finds an upstream's authorization server (basic/authorization, Authorization Server Discovery).

Nothing is cached: discovery runs again when the upstream refuses a token, because its authorization server may have
changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
from msgspec import Struct
from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.mcp.sdk import SDK
from gateway_core.upstream.auth.challenge import Challenge, scopes
from gateway_core.upstream.auth.documents import Fetcher, Refused

OFFLINE: Final = "offline_access"
"""The scope that asks for a refresh token (OpenID Connect Core, section 11)."""
DISCOVERY: Final = 20.0
"""Seconds for the entire discovery of an authorization server."""
_PROTECTED_RESOURCE: Final = "/.well-known/oauth-protected-resource"
_AUTHORIZATION_SERVER: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"


class _Resource(Struct):
    """Protected resource metadata (RFC 9728, section 2)."""

    resource: str
    authorization_servers: list[str] = []
    scopes_supported: list[str] | None = None


class _Metadata(Struct):
    """Authorization server metadata (RFC 8414, section 2)."""

    issuer: str
    token_endpoint: str = ""
    token_endpoint_auth_methods_supported: list[str] | None = None
    authorization_endpoint: str | None = None
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    scopes_supported: list[str] | None = None
    response_types_supported: list[str] | None = None
    code_challenge_methods_supported: list[str] | None = None
    authorization_response_iss_parameter_supported: bool | None = None  # RFC 9207, section 3
    client_id_metadata_document_supported: bool | None = None


class AuthorizationServer(msgspec.Struct, frozen=True):
    """The authorization server of an upstream. Only its token endpoint was checked with `Fetcher.address`."""

    token_endpoint: URL
    issuer: str | None
    """Its issuer identifier; None if the operator configured only the token endpoint."""
    methods: frozenset[str] = frozenset()
    """Client authentication methods that it supports, per its metadata; empty if not given."""
    scopes: tuple[str, ...] = ()
    """The scopes for basic use of the upstream, per its metadata (`scopes_supported`)."""
    resource: str | None = None
    """The upstream's resource identifier, if its metadata has one."""
    authorization_endpoint: str = ""
    registration_endpoint: str = ""
    revocation_endpoint: str = ""
    offers_codes: bool = False
    """Whether it has the code flow with the code challenge method S256."""
    offers_offline: bool = False
    """Whether it knows the scope `offline_access`."""
    sends_issuer: bool = False
    """Whether its authorization responses always have `iss`."""
    takes_documents: bool = False
    """Whether it accepts the URL of a client ID metadata document as a client identifier."""


def configured(config: AuthConfig) -> AuthorizationServer | None:
    """The authorization server whose endpoints the configuration names; None without `token_url`."""
    if config.token_url is None:
        return None
    authorization = config.authorization_url or ""
    return AuthorizationServer(
        URL(config.token_url), config.issuer, authorization_endpoint=authorization, offers_codes=bool(authorization)
    )


async def discover(fetcher: Fetcher, upstream: URL, challenge: Challenge, issuer: str | None) -> AuthorizationServer:
    """Find the authorization server of `upstream`, within `DISCOVERY` seconds. Raises `Refused`.

    `issuer`: the owner of the credentials, if known; any other issuer is refused.
    """
    async with _bounded():
        resource = await _resource(fetcher, upstream, challenge.resource_metadata)
        if resource is not None:
            return await _server(fetcher, _chosen(resource.authorization_servers, issuer), resource)
        if issuer is None:
            raise Refused("it does not tell its authorization server (no protected resource metadata): set token_url")
        return await _server(fetcher, issuer, None)


async def discover_issuer(fetcher: Fetcher, issuer: str) -> AuthorizationServer:
    """Find an authorization server by its issuer identifier, without asking the upstream. Raises `Refused`."""
    async with _bounded():
        return await _server(fetcher, issuer, None)


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DISCOVERY):
            yield
    except TimeoutError:
        raise Refused(f"its authorization server was not found within {DISCOVERY:g} s") from None


def resource_of(config: AuthConfig, server: AuthorizationServer, upstream: URL) -> str:
    """The `resource` parameter (RFC 8707); empty if the operator configured none to be sent."""
    if config.resource is not None:
        return config.resource
    return server.resource or canonical(upstream)


def canonical(upstream: URL) -> str:
    """The upstream's URI for the `resource` parameter (basic/authorization, Canonical Server URI)."""
    text = str(upstream.with_query(None).with_fragment(None))
    return text.removesuffix("/") if upstream.path == "/" else text


async def _resource(fetcher: Fetcher, upstream: URL, named: str | None) -> _Resource | None:
    origin = upstream.origin()
    if named is not None:
        places = [fetcher.address(named)]
    else:
        paths = dict.fromkeys((_PROTECTED_RESOURCE + upstream.raw_path.rstrip("/"), _PROTECTED_RESOURCE))
        places = [fetcher.address(f"{origin}{path}") for path in paths]
    for place in places:
        found = await fetcher.document(place, _Resource)
        if found is None:
            continue
        await SDK.load()
        if not _is_about(found.resource, upstream):
            raise Refused("its protected resource metadata is about another resource than the upstream's url")
        return found
    return None


def _is_about(resource: str, upstream: URL) -> bool:
    from mcp.shared.auth_utils import check_resource_allowed  # noqa: PLC0415 - see `SDK`

    try:
        return check_resource_allowed(canonical(upstream), resource)
    except ValueError:  # not a URL
        return False


def _chosen(offered: list[str], issuer: str | None) -> str:
    if issuer is not None:
        # Never send one server's credentials to another (Client Registration, Authorization Server Binding).
        if issuer not in offered:
            raise Refused(
                f"the upstream does not name {URL(issuer).origin()} as its authorization server (any more), and the "
                "credentials belong to that; if it has moved, set issuer and the credentials of the new one"
            )
        return issuer
    if not offered:
        raise Refused("its protected resource metadata names no authorization server: set token_url")
    return offered[0]


async def _server(fetcher: Fetcher, issuer: str, resource: _Resource | None) -> AuthorizationServer:
    for place in _places(fetcher.address(issuer)):
        found = await fetcher.document(place, _Metadata)
        if found is None:
            continue
        if found.issuer != issuer:  # must be identical (RFC 8414, section 3.3)
            raise Refused(f"the metadata at {place.origin()} is that of another issuer, and is not used")
        if not found.token_endpoint:
            raise Refused(f"the metadata at {place.origin()} has no token_endpoint")
        return AuthorizationServer(
            token_endpoint=fetcher.address(found.token_endpoint),
            issuer=issuer,
            methods=frozenset(found.token_endpoint_auth_methods_supported or ()),
            scopes=scopes(resource.scopes_supported or ()) if resource is not None else (),
            resource=resource.resource if resource is not None else None,
            authorization_endpoint=found.authorization_endpoint or "",
            registration_endpoint=found.registration_endpoint or "",
            revocation_endpoint=found.revocation_endpoint or "",
            offers_codes=_offers_codes(found),
            offers_offline=OFFLINE in (found.scopes_supported or ()),
            sends_issuer=bool(found.authorization_response_iss_parameter_supported),
            takes_documents=bool(found.client_id_metadata_document_supported),
        )
    raise Refused(f"no authorization server metadata at {URL(issuer).origin()}: set token_url")


def _offers_codes(found: _Metadata) -> bool:
    """Without `code_challenge_methods_supported`, a server does not support PKCE (Authorization Code Protection)."""
    return (
        bool(found.authorization_endpoint)
        and "S256" in (found.code_challenge_methods_supported or ())
        and "code" in (found.response_types_supported or ("code",))
    )


def _places(issuer: URL) -> list[URL]:
    """The URLs to try for an issuer's metadata, in the specification's order."""
    origin, path = issuer.origin(), issuer.raw_path.rstrip("/")
    paths = [_AUTHORIZATION_SERVER + path, _OPENID + path, path + _OPENID] if path else [_AUTHORIZATION_SERVER, _OPENID]
    return [URL(f"{origin}{path}", encoded=True) for path in paths]
