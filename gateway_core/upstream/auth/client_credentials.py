"""Access tokens by the OAuth 2.0 client-credentials grant (RFC 6749, section 4.4): no user is involved."""

from __future__ import annotations

from gateway_core.upstream.auth.client_grant import ClientGrant
from gateway_core.upstream.auth.discovery import AuthorizationServer


class ClientCredentials(ClientGrant):
    """The access token of the gateway itself, as a client of the authorization server."""

    def _form(self, server: AuthorizationServer, scopes: tuple[str, ...]) -> dict[str, str]:
        return {"grant_type": "client_credentials", **self._target(server, scopes)}
