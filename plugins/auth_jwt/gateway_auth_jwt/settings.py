"""The settings of `auth_jwt`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator
from yarl import URL

from gateway_auth_jwt.key_set import Algorithm
from gateway_auth_jwt.key_stores import read_keys
from gateway_core import ConfigPath, PluginConfig, TrustedAuthorities, is_loopback

_MAX_ISSUER: Final = 512
_AUDIENCE_PATH: Final = re.compile(r"/?|(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")

Name = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,256}$")]
"""A scope (RFC 6749, section 3.3)."""
ClaimPath = Annotated[
    tuple[Name, ...],
    BeforeValidator(lambda given: (given,) if isinstance(given, str) else given),
    Field(min_length=1, max_length=8),
]
"""The names that lead to a claim or a member of one; in the TOML, the name of a claim may stand alone."""


class IssuerConfig(PluginConfig):
    """An authorization server whose tokens are accepted."""

    issuer: str = Field(description="its issuer identifier, exactly as in its tokens (`iss`); an https URL")
    audience: tuple[Name, ...] = Field(
        default=(),
        description="values of `aud`, of which its tokens must have one; without it, the gateway's `audience`",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "PS256", "ES256", "EdDSA"),
        min_length=1,
        description="the algorithms that may sign its tokens",
    )
    token_types: tuple[Name, ...] = Field(
        default=("at+jwt", "JWT"),
        min_length=1,
        description='the values of the header `typ` that are accepted; a token without it is a "JWT"',
    )
    scopes_from: tuple[ClaimPath, ...] = Field(
        default=(("scope",), ("scp",)), description="the claims that hold scopes, as a text or a list"
    )
    groups_from: tuple[ClaimPath, ...] = Field(
        default=(("groups",),),
        description="the claims that hold groups; a list of names leads to a member of a claim",
    )
    jwks_uri: str | None = Field(default=None, description="the https URL of its keys, instead of discovery")
    jwks_file: ConfigPath | None = Field(
        default=None,
        description="a file with its keys (JWKS), instead of discovery; a relative path starts at the configuration "
        "file's folder",
    )
    ca: ConfigPath | None = Field(
        default=None,
        description="a PEM file with the authorities to trust for its server, instead of the system's; it is read "
        "again when it changes",
    )

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, value: str) -> str:
        _check_url(value)
        if len(value) > _MAX_ISSUER or "|" in value or "?" in value:
            raise ValueError(f"an issuer has at most {_MAX_ISSUER} characters, no | and no query")
        return value

    @field_validator("jwks_uri")
    @classmethod
    def _check_jwks_uri(cls, value: str | None) -> str | None:
        if value is not None:
            _check_url(value)
        return value

    @field_validator("jwks_file")
    @classmethod
    def _check_jwks_file(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_keys(value)
            except OSError as problem:
                raise ValueError(f"it cannot be read: {problem.strerror}") from None
        return value

    @field_validator("ca")
    @classmethod
    def _check_ca(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                TrustedAuthorities(value)
            except OSError as problem:
                raise ValueError(str(problem)) from None
        return value

    @model_validator(mode="after")
    def _check_sources(self) -> IssuerConfig:
        if self.jwks_file is not None and (self.jwks_uri is not None or self.ca is not None):
            raise ValueError("with jwks_file, no server is asked; remove jwks_uri and ca")
        return self


class Settings(PluginConfig):
    """Settings of `auth_jwt`."""

    audience: str = Field(
        description="the URL of the gateway as agents write it, for example https://gateway.example.com/mcp; "
        "tokens must be for it (`aud`)"
    )
    issuers: tuple[IssuerConfig, ...] = Field(
        max_length=16, description="the authorization servers whose tokens are accepted, a table for each"
    )
    required_scopes: tuple[Scope, ...] = Field(default=(), description="the scopes that every token must have")
    advertised_scopes: tuple[Scope, ...] = Field(
        default=(),
        description="the scopes that agents are to ask for, if they differ from `required_scopes`",
    )
    leeway: float = Field(
        default=30.0, ge=0.0, le=300.0, allow_inf_nan=False, description="seconds by which clocks may differ"
    )

    @field_validator("audience")
    @classmethod
    def _check_audience(cls, value: str) -> str:
        _check_url(value)
        if not _AUDIENCE_PATH.fullmatch(URL(value).raw_path) or "?" in value:
            raise ValueError("it must be a URL without query, and without a slash at the end")
        return value

    @field_validator("issuers")
    @classmethod
    def _check_issuers(cls, value: tuple[IssuerConfig, ...]) -> tuple[IssuerConfig, ...]:
        if not value:
            raise ValueError("at least one is needed")
        repeated = _repeated(each.issuer for each in value)
        if repeated is not None:
            raise ValueError(f"the issuer {repeated} has two tables; remove one of them")
        return value


def _check_url(value: str) -> None:
    """Raise `ValueError` unless `value` is a URL with https, or one of this machine."""
    wanted = "it must be an https URL; http is possible for 127.0.0.1, ::1 and localhost only"
    try:
        url = URL(value) if value.isascii() and value.isprintable() and " " not in value else URL()
        host = url.host
    except ValueError:
        raise ValueError(wanted) from None
    if not host or url.scheme not in {"http", "https"} or (url.scheme == "http" and not is_loopback(host)):
        raise ValueError(wanted)
    if url.user is not None or "#" in value:
        raise ValueError("it must be a URL without user and fragment")


def _repeated(values: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
