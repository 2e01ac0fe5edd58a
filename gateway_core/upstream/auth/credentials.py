"""Client authentication at a token endpoint (`token_endpoint_auth_method`, RFC 7591, section 2)."""

from __future__ import annotations

import base64
import time
from collections.abc import Set
from typing import Final
from urllib.parse import quote_plus
from uuid import uuid4

from aiohttp import hdrs

from gateway_core.config import AuthConfig
from gateway_core.config.keys import algorithms

ASSERTION_LIFE: Final = 60
"""Lifetime of an assertion in seconds; it is used once, immediately."""
_JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, section 2.2
_WITH_SECRET: Final = ("client_secret_basic", "client_secret_post")


class Credentials:
    """The client's identifier and secret or key. Remembers which method the endpoint accepted."""

    def __init__(self, config: AuthConfig) -> None:
        self._id = config.client_id
        self._config = config
        self._worked: str | None = None

    def methods(self, offered: Set[str]) -> tuple[str, ...]:
        """The methods to try, in order. `offered`: the methods in the server's metadata."""
        if self._config.token_endpoint_auth_method is not None:
            return (self._config.token_endpoint_auth_method,)
        if self._config.private_key is not None:
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
            pair = f"{quote_plus(self._id)}:{quote_plus(self._secret)}"  # RFC 6749, section 2.3.1
            return {}, {hdrs.AUTHORIZATION: "Basic " + base64.b64encode(pair.encode()).decode()}
        if method == "client_secret_post":
            return {"client_id": self._id, "client_secret": self._secret}, {}
        if method == "private_key_jwt":
            assertion = {"client_assertion_type": _JWT_BEARER, "client_assertion": self._assertion(audience)}
            return {"client_id": self._id, **assertion}, {}
        return {"client_id": self._id}, {}

    @property
    def _secret(self) -> str:
        assert self._config.client_secret is not None, "checked by the configuration"
        return self._config.client_secret.get_secret_value()

    def _assertion(self, audience: str) -> str:
        import jwt  # noqa: PLC0415 - only upstreams with a private key need it

        assert self._config.private_key is not None, "checked by the configuration"
        key = self._config.private_key.get_secret_value()
        now = int(time.time())
        claims = {
            "iss": self._id,
            "sub": self._id,
            "aud": audience,
            "iat": now,
            "exp": now + ASSERTION_LIFE,
            "jti": str(uuid4()),
        }
        headers = {"kid": self._config.key_id} if self._config.key_id is not None else None
        return jwt.encode(claims, key, self._config.signing_algorithm or algorithms(key)[0], headers)
