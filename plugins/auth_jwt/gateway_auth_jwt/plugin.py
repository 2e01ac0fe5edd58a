"""Authenticate agents by JWT access tokens, as an OAuth 2.1 resource server (basic/authorization).

A token proves its subject if a configured issuer signed it for this gateway and it has not expired. Everything else
about it is refused. If it is not known whether a token is valid, because its issuer's keys cannot be had, the plugin
raises an error, so that the client keeps its token and tries again.
"""

from __future__ import annotations

from typing import Any, Final, Self

from yarl import URL

from gateway_auth_jwt.fetcher import Fetcher
from gateway_auth_jwt.identity import principal_of
from gateway_auth_jwt.key_stores import FileKeys, KeyStore, RemoteKeys
from gateway_auth_jwt.settings import IssuerConfig, Settings
from gateway_auth_jwt.token import InvalidToken, UnverifiedToken, is_jwt, quoted
from gateway_auth_jwt.verification import check_confirmation, verify
from gateway_core import Credentials, Plugin, Principal, Reject, hookimpl

_METADATA: Final = "oauth-protected-resource"
_ENDPOINT: Final = "/mcp"
"""The path of the gateway's endpoint, for clients that derive the metadata's address from it."""


class _Issuer:
    """An accepted issuer and its keys."""

    def __init__(self, config: IssuerConfig, audience: str) -> None:
        self.config = config
        self.audiences: Final = config.audience or _forms(audience)
        self.token_types: Final = frozenset(each.lower().removeprefix("application/") for each in config.token_types)
        self.keys: Final[KeyStore] = _store(config)


class Jwt(Plugin[Settings]):
    """Proves principals by their tokens."""

    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self._issuers = {each.issuer: _Issuer(each, config.audience) for each in config.issuers}
        scopes = config.advertised_scopes or config.required_scopes
        self.challenges = (_challenge(config.audience, scopes),)
        self.well_known = dict.fromkeys(
            (_METADATA, _METADATA + _ENDPOINT, _METADATA + _path(config.audience)), _metadata(config, scopes)
        )

    async def __aenter__(self) -> Self:
        for issuer in self._issuers.values():
            await issuer.keys.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        for issuer in self._issuers.values():
            await issuer.keys.close()

    @property
    def warnings(self) -> list[str]:
        """What is wrong with files of issuers at present, for `status`."""
        return [
            f"issuer {name}: {warning}" for name, issuer in self._issuers.items() if (warning := issuer.keys.warning)
        ]

    @hookimpl
    async def authenticate(self, credentials: Credentials) -> Principal | Reject | None:
        bearer = credentials.bearer
        if bearer is None or not is_jwt(bearer):
            return None
        try:
            return await self._principal(bearer, credentials)
        except InvalidToken as problem:
            return Reject(f"the token is refused: {problem}")

    async def _principal(self, bearer: str, credentials: Credentials) -> Principal:
        token = UnverifiedToken.parse(bearer)
        issuer = self._issuers.get(token.issuer)
        if issuer is None:
            raise InvalidToken(f"its issuer (iss) is not configured: {quoted(token.issuer)}")
        if token.algorithm not in issuer.config.algorithms:
            raise InvalidToken(f"its algorithm (alg) is not allowed: {quoted(token.algorithm)}")
        if token.type not in issuer.token_types:
            raise InvalidToken(f"its type (typ) is not accepted: {quoted(token.type)}")
        keys = await issuer.keys.find(token.key_id, token.algorithm)
        if not keys:
            raise InvalidToken(f"its issuer has no such key (kid) for {token.algorithm}: {quoted(token.key_id)}")
        claims = verify(token, keys, issuer.audiences, self.config.leeway)
        check_confirmation(claims, credentials.certificate)
        return principal_of(
            claims,
            groups=issuer.config.groups_from,
            scopes=issuer.config.scopes_from,
            required_scopes=self.config.required_scopes,
            leeway=self.config.leeway,
        )


def _store(config: IssuerConfig) -> KeyStore:
    if config.jwks_file is not None:
        return FileKeys(config.jwks_file)
    named = [URL(config.issuer)] if config.jwks_uri is None else [URL(config.jwks_uri)]
    return RemoteKeys(config.issuer, Fetcher(named, config.ca), config.jwks_uri)


def _forms(audience: str) -> tuple[str, ...]:
    """The forms of the gateway's URL: without a path, a slash at the end makes no difference (RFC 3986, 6.2.3)."""
    return (audience,) if _path(audience) else (audience.rstrip("/"), audience.rstrip("/") + "/")


def _path(audience: str) -> str:
    """The path of the gateway's URL, without a slash at the end."""
    return URL(audience).raw_path.rstrip("/")


def _challenge(audience: str, scopes: tuple[str, ...]) -> str:
    """The `WWW-Authenticate` challenge (RFC 9728, section 5.1; RFC 6750, section 3)."""
    where = f"{URL(audience).origin()}/.well-known/{_METADATA}{_path(audience)}"
    scope = f', scope="{" ".join(scopes)}"' if scopes else ""
    return f'Bearer resource_metadata="{where}"{scope}'


def _metadata(config: Settings, scopes: tuple[str, ...]) -> dict[str, Any]:
    """The protected resource metadata (RFC 9728, section 2)."""
    found: dict[str, Any] = {
        "resource": config.audience,
        "authorization_servers": [each.issuer for each in config.issuers],
        "bearer_methods_supported": ["header"],
    }
    if scopes:
        found["scopes_supported"] = list(scopes)
    return found
