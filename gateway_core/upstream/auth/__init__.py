"""OAuth client for upstreams: obtains the access tokens that the gateway sends to them.

Terms, from the specification's basic/authorization and the RFCs it builds on:

- A *challenge* is the `WWW-Authenticate` header of an upstream's 401 or 403 (`challenge.py`).
- *Discovery* follows the challenge to the upstream's protected resource metadata (RFC 9728), and that to the metadata
  of its authorization server (RFC 8414, or OpenID Connect Discovery), named by its *issuer* (`discovery.py`).
- *Documents* are the metadata, fetched from addresses that untrusted servers chose (`documents.py`, `reach.py`).
- *Credentials* authenticate the client at the token endpoint (`credentials.py`, `endpoint.py`).
- A `TokenSource` renews the token of an upstream (`tokens.py`). The rest of the gateway uses only this class.

There are three grants. With client credentials (`client_credentials.py`), no user is involved. With token exchange
(`token_exchange.py`), the token of an agent becomes one for the upstream; both share `client_grant.py`. With an
authorization code, a person logs in with a browser (`code_flow.py`, `registration.py`); the *login* is stored
(`logins.py`, `vault.py`), and its token is renewed from then on (`login_tokens.py`).
"""

from gateway_core.upstream.auth.challenge import Challenge
from gateway_core.upstream.auth.client_credentials import ClientCredentials
from gateway_core.upstream.auth.login_tokens import LoginTokens
from gateway_core.upstream.auth.logins import Login, Logins
from gateway_core.upstream.auth.token_exchange import ExchangedTokens
from gateway_core.upstream.auth.tokens import PrincipalTokens, TokenSource

__all__ = [
    "Challenge",
    "ClientCredentials",
    "ExchangedTokens",
    "Login",
    "LoginTokens",
    "Logins",
    "PrincipalTokens",
    "TokenSource",
]
