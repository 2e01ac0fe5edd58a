"""The base class of every table of the file, and the tables that depend on no other."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway_core.config.fields import (
    ClientAuthentication,
    Filled,
    Host,
    Issuer,
    PrivateKey,
    Resource,
    Secret,
    SigningAlgorithm,
    TokenUrl,
)


class Section(BaseModel):
    """Base of every table: no unknown keys, no conversions between types, no values in error texts."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=False
    )

    not_in_file: ClassVar[frozenset[str]] = frozenset()
    """Fields that `load` sets and that are not keys of the file."""

    @classmethod
    def file_keys(cls) -> list[str]:
        """The keys that the table may have in the file."""
        return [key for key in cls.model_fields if key not in cls.not_in_file]


class ControlConfig(Section):
    """The control plane: status and tools for operators, on a listener that agents do not use."""

    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. The admin token crosses it unencrypted: keep it on loopback.",
    )
    port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="TCP port to listen on; 0 takes a free one, which the commands find through the pid file.",
    )


class NamesConfig(Section):
    """Which names of tools and prompts agents can take. Names that do not fit are changed before they are published."""

    max_length: int = Field(
        default=128,
        ge=32,
        le=128,
        description="Longest name in characters; some clients take 64. A longer one is cut and ends in a digest.",
    )
    dots: bool = Field(default=True, description="Whether names may contain a dot; `false` puts `_` in its place.")


class AuthConfig(Section):
    """How the gateway proves itself to an upstream: the OAuth 2.0 client-credentials grant."""

    auth_type: Literal["oauth"] = Field(default="oauth", description="The client-credentials grant is the only one.")
    token_url: TokenUrl | None = Field(
        default=None,
        description="Token endpoint; https, or http on loopback. Without it, it is found through the metadata that the "
        "upstream names when it answers 401.",
        examples=["https://auth.example.com/oauth/token"],
    )
    issuer: Issuer | None = Field(
        default=None,
        description="The authorization server that the credentials belong to, exactly as its metadata writes it; they "
        "are sent to no other. Without it (and without `token_url`), the first that the upstream names is kept to "
        "until the gateway stops.",
        examples=["https://auth.example.com"],
    )
    client_id: Filled = Field(description="Client identifier.", examples=["gateway"])
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
        default=None, description="`kid` of the key, where the server wants it named.", examples=["gateway-2026"]
    )
    signing_algorithm: SigningAlgorithm | None = Field(
        default=None,
        description="Without it `RS256`, `EdDSA`, or the `ES…` of the key's curve.",
        examples=["ES256"],
    )
    token_endpoint_auth_method: ClientAuthentication | None = Field(
        default=None,
        description="How the client proves itself. Without it, `private_key_jwt` if there is a key, else what the "
        'server offers or accepts of the two for a secret. `"none"`: a client without secret and key.',
        examples=["client_secret_post"],
    )
    scope: Filled | None = Field(
        default=None,
        description="Scopes to ask for, separated by spaces; never more. Without it, those that the upstream asks for, "
        "and more when it refuses a call for want of them.",
        examples=["tools:read tools:call"],
    )
    resource: Resource | None = Field(
        default=None,
        description="Resource the token is for (RFC 8707). Without it, what the metadata of the upstream says, or "
        '`url`; `""`: none is named, for servers that refuse it.',
        examples=["https://mcp.example.com/mcp"],
    )
