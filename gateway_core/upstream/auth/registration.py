"""The OAuth client of a login: configured, named by a metadata document, or registered (Client Registration)."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from yarl import URL

from gateway_core.config import AuthConfig
from gateway_core.http1.hosts import is_loopback
from gateway_core.upstream.auth.credentials import Credentials
from gateway_core.upstream.auth.discovery import AuthorizationServer
from gateway_core.upstream.auth.documents import Fetcher, Refused
from gateway_core.upstream.auth.logins import Client, Login

CLIENT_NAME: Final = "Radium MCP gateway"
"""What authorization servers show to the person who logs in."""
_VISIBLE: Final = re.compile(r"[\x20-\x7e]{1,2048}")  # RFC 6749, appendix A.1
_METHODS: Final = ("none", "client_secret_basic", "client_secret_post")
"""`token_endpoint_auth_method` of clients that the gateway registers, the preferred one first."""
_ERRORS: Final = frozenset(
    {"invalid_redirect_uri", "invalid_client_metadata", "invalid_software_statement", "unapproved_software_statement"}
)
"""Error codes of RFC 7591, section 3.2.2."""


class _Registered(msgspec.Struct):
    """A registration response (RFC 7591, section 3.2)."""

    client_id: str = ""
    client_secret: str | None = None
    client_secret_expires_at: float | None = None
    token_endpoint_auth_method: str | None = None
    error: str = ""


async def client_for(
    fetcher: Fetcher, server: AuthorizationServer, config: AuthConfig, known: Sequence[Login], redirect_uri: str
) -> Client:
    """The client for a login at `server`, in the specification's order of preference. Raises `Refused`.

    `known`: earlier logins; a client that was registered for one of them is used again.
    """
    if config.client_id is not None:
        return Client(config.client_id)
    if config.client_metadata_url is not None and server.takes_documents:
        return Client(config.client_metadata_url, "document")
    for login in known:
        if reusable(login, server.issuer, redirect_uri):
            return login.client
    if not server.registration_endpoint:
        shown, own = URL(redirect_uri), URL(config.redirect_uri)
        if shown.with_port(own.explicit_port) == own:
            shown = own  # the port was chosen for this login alone
        documents = "accepts no client metadata documents and " if config.client_metadata_url is not None else ""
        raise Refused(
            f"the authorization server {documents}registers no clients by itself: register one there with the redirect "
            f"URI {shown}, and write its client_id into the auth of the upstream"
        )
    return await _register(fetcher, server, redirect_uri)


def reusable(last: Login, issuer: str | None, redirect_uri: str | None = None) -> bool:
    """Whether the client of a login is one that was registered at `issuer` and can still be used."""
    client = last.client
    is_valid = not client.expires_at or time.time() < client.expires_at
    is_same = client.kind == "registered" and last.issuer == issuer
    return is_same and is_valid and redirect_uri in (None, client.redirect_uri)


def credentials_of(client: Client, config: AuthConfig) -> Credentials:
    """What authenticates the client at the token endpoint."""
    if client.kind != "registered":
        return Credentials.of(config)
    return Credentials(client.id, client.secret or None, client.method or None)


async def _register(fetcher: Fetcher, server: AuthorizationServer, redirect_uri: str) -> Client:
    endpoint = fetcher.address(server.registration_endpoint)
    offered = server.methods or {"client_secret_basic"}  # the default (RFC 8414, section 2)
    method = next((method for method in _METHODS if method in offered), _METHODS[0])
    metadata = {
        "client_name": CLIENT_NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": "native" if is_loopback(URL(redirect_uri).host or "") else "web",
    }
    try:
        status, body = await fetcher.register(endpoint, metadata)
        return _client(status, body, server, redirect_uri)
    except Refused as failure:
        raise Refused(f"the authorization server registered no client: {failure}") from None


def _client(status: int, body: bytes, server: AuthorizationServer, redirect_uri: str) -> Client:
    try:
        answer = msgspec.json.decode(body, type=_Registered)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        answer = _Registered()
    if status not in {200, 201}:
        code = f" ({answer.error})" if answer.error in _ERRORS else ""
        raise Refused(f"HTTP {status}{code}")
    given: list[Any] = [answer.client_id, *filter(None, [answer.client_secret])]
    if not all(_VISIBLE.fullmatch(text) for text in given):
        raise Refused("its answer has no usable client_id")
    secret, method = answer.client_secret or "", answer.token_endpoint_auth_method or ""
    if not secret or (not method and server.methods == {"none"}):
        method = "none"
    if method not in {"", *_METHODS}:
        raise Refused("it demands a client authentication that the gateway does not have")
    return Client(answer.client_id, "registered", secret, method, redirect_uri, answer.client_secret_expires_at or 0.0)
