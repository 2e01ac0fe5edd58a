"""Client authentication at a token endpoint (`token_endpoint_auth_method`, RFC 7591, section 2)."""

from __future__ import annotations

import base64
import time
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus
from uuid import uuid4

from gateway_core.config import AuthConfig
from gateway_core.config.keys import algorithms
from gateway_core.http1.client import field_names

ASSERTION_LIFE: Final = 60
"""Lifetime of an assertion in seconds; it is used once, immediately."""
_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, section 2.2
_WITH_SECRET: Final = ("client_secret_basic", "client_secret_post")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key that signs assertions."""

    pem: str = field(repr=False)
    key_id: str | None = None
    algorithm: str | None = None


class Credentials:
    """The client's identifier and secret or key. Remembers which method the endpoint accepted."""

    def __init__(
        self, client_id: str, secret: str | None = None, method: str | None = None, key: SigningKey | None = None
    ) -> None:
        """`method`: the only method to use; without it, the one for `key`, else those for secrets."""
        self._id = client_id
        self._secret = secret
        self._method = method
        self._key = key
        self._worked: str | None = None

    @classmethod
    def of(cls, config: AuthConfig) -> Credentials:
        """The credentials in the configuration. A client without secret and key is public."""
        client_id = config.client_id or config.client_metadata_url
        assert client_id is not None, "checked by the configuration"
        secret, key = config.client_secret, config.private_key
        signing = None if key is None else SigningKey(key.get_secret_value(), config.key_id, config.signing_algorithm)
        method = config.token_endpoint_auth_method
        if secret is None and key is None:
            method = "none"
        return cls(client_id, None if secret is None else secret.get_secret_value(), method, signing)

    def methods(self, offered: Set[str]) -> tuple[str, ...]:
        """The methods to try, in order. `offered`: the methods in the server's metadata."""
        if self._method is not None:
            return (self._method,)
        if self._key is not None:
            return ("private_key_jwt",)
        if self._worked is not None:
            return (self._worked,)
        return tuple(method for method in _WITH_SECRET if method in offered) or _WITH_SECRET

    def took(self, method: str) -> None:
        """Record that the endpoint accepted `method`."""
        self._worked = method

    def failed(self) -> None:
        """Record that the endpoint accepted none of the methods tried."""
        self._worked = None

    def proof(self, method: str, audience: str) -> tuple[dict[str, str], dict[str, str]]:
        """Form members and headers that authenticate a token request. `audience` names the authorization server."""
        if method == "client_secret_basic":
            pair = f"{quote_plus(self._id)}:{quote_plus(self._secret or '')}"  # RFC 6749, section 2.3.1
            return {}, {field_names.AUTHORIZATION: "Basic " + base64.b64encode(pair.encode()).decode()}
        if method == "client_secret_post":
            return {"client_id": self._id, "client_secret": self._secret or ""}, {}
        if method == "private_key_jwt":
            assertion = {"client_assertion_type": _JWT_BEARER, "client_assertion": self._assertion(audience)}
            return {"client_id": self._id, **assertion}, {}
        return {"client_id": self._id}, {}

    def _assertion(self, audience: str) -> str:
        import jwt  # noqa: PLC0415 - only upstreams with a private key need it

        assert self._key is not None, "checked by the configuration"
        now = int(time.time())
        claims = {
            "iss": self._id,
            "sub": self._id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_LIFE,
            "jti": str(uuid4()),
        }
        headers = {"kid": self._key.key_id} if self._key.key_id is not None else None
        return jwt.encode(claims, self._key.pem, self._key.algorithm or algorithms(self._key.pem)[0], headers)
