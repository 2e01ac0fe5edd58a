"""The table `auth` of an upstream."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway_core.config.fields import (
    ClientAuthentication,
    DocumentUrl,
    Filled,
    Issuer,
    PrivateKey,
    RedirectUri,
    Resource,
    Secret,
    SigningAlgorithm,
    TokenUrl,
)
from gateway_core.config.sections import Section


class AuthConfig(Section):
    """How the gateway authenticates to an upstream, with OAuth 2.1."""

    auth_type: Literal["oauth"] = Field(default="oauth", description="OAuth is the only one.")
    grant: Literal["client_credentials", "authorization_code", "token_exchange"] = Field(
        default="client_credentials",
        description="`client_credentials`: the gateway proves who it is. `authorization_code`: a person logs in once, "
        "with `rad mcp proxy login NAME`, and the gateway acts for that person. `token_exchange`: the access token of "
        "each agent becomes one for the upstream (RFC 8693).",
        examples=["authorization_code"],
    )
    identity: Literal["gateway", "user"] = Field(
        default="gateway",
        description="Whose tokens the upstream gets. `gateway`: those of the operator's login, for all agents. `user`: "
        "each verified principal logs in for itself, when its first call needs it (`authorization_code`).",
        examples=["user"],
    )
    token_url: TokenUrl | None = Field(
        default=None,
        description="Token endpoint; https, or http on loopback. Without it, it is found through the metadata that the "
        "upstream names when it answers 401.",
        examples=["https://auth.example.com/oauth/token"],
    )
    authorization_url: TokenUrl | None = Field(
        default=None,
        description="Authorization endpoint, where the browser goes; needed beside `token_url` for "
        "`authorization_code`.",
        examples=["https://auth.example.com/oauth/authorize"],
    )
    issuer: Issuer | None = Field(
        default=None,
        description="The authorization server that the credentials belong to, exactly as its metadata writes it; they "
        "are sent to no other. Without it (and without `token_url`), the first that the upstream names counts "
        "until the gateway stops, or for `authorization_code` until the logout.",
        examples=["https://auth.example.com"],
    )
    client_id: Filled | None = Field(
        default=None,
        description="Client identifier. Without it, `authorization_code` uses `client_metadata_url`, or registers a "
        "client at the first login (RFC 7591).",
        examples=["gateway"],
    )
    client_metadata_url: DocumentUrl | None = Field(
        default=None,
        description="Address of a client ID metadata document, which is then the client identifier, for authorization "
        "servers that accept one (`authorization_code`).",
        examples=["https://example.com/radium/client.json"],
    )
    redirect_uri: RedirectUri = Field(
        default="http://127.0.0.1/callback",
        description="Address on this machine that the browser returns to after a login. Without a port, a free one is "
        "used; give one if the authorization server accepts only the registered port (`authorization_code`).",
        examples=["http://127.0.0.1:8765/callback"],
    )
    client_secret: Secret | None = Field(
        default=None,
        description="Client secret; from the environment or a file.",
        examples=["${CLIENT_SECRET}"],
        repr=False,
    )
    private_key: PrivateKey | None = Field(
        default=None,
        description="In place of a secret: the private key in PEM that signs an assertion (`private_key_jwt`).",
        examples=["${file:gateway.pem}"],
        repr=False,
    )
    key_id: Filled | None = Field(
        default=None, description="`kid` of the key, if the server requires it.", examples=["gateway-2026"]
    )
    signing_algorithm: SigningAlgorithm | None = Field(
        default=None,
        description="Without it `RS256`, `EdDSA`, or the `ES…` of the key's curve.",
        examples=["ES256"],
    )
    token_endpoint_auth_method: ClientAuthentication | None = Field(
        default=None,
        description="How the client authenticates. Without it, `private_key_jwt` if there is a key, else the "
        'method for secrets that the server supports. `"none"`: a client without secret and key.',
        examples=["client_secret_post"],
    )
    scope: Filled | None = Field(
        default=None,
        description="Scopes to ask for, separated by spaces; never more. Without it, what the upstream asks for, "
        "and more when it refuses a call because they are missing.",
        examples=["tools:read tools:call"],
    )
    audience: Filled | None = Field(
        default=None,
        description="Name of the upstream at the authorization server, if it wants one beside or in place of "
        "`resource` (`token_exchange`).",
        examples=["tracker"],
    )
    subject_token_type: Literal["access_token", "jwt"] = Field(
        default="access_token", description="What the agent's token is called in the exchange (`token_exchange`)."
    )
    resource: Resource | None = Field(
        default=None,
        description="Resource the token is for (RFC 8707). Without it, what the metadata of the upstream says, or "
        '`url`; `""`: requests name none, for servers that refuse it.',
        examples=["https://mcp.example.com/mcp"],
    )
