"""Token requests and responses (RFC 6749, section 5), and revocation (RFC 7009)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gateway_core.upstream.auth.challenge import scopes
from gateway_core.upstream.auth.credentials import Credentials
from gateway_core.upstream.auth.discovery import AuthorizationServer
from gateway_core.upstream.auth.documents import Fetcher, Refused

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")
_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "invalid_scope",
        "invalid_target",
        "unauthorized_client",
        "unsupported_grant_type",
        "server_error",
        "temporarily_unavailable",
    }
)
"""Error codes of RFC 6749 section 5.2 and RFC 8707: the only text from a token endpoint in our messages."""


class EndpointAnswer(msgspec.Struct):
    """A token response: a token or an error."""

    access_token: str = ""
    token_type: str = ""
    """Empty if it is missing, which is tolerated."""
    issued_token_type: Any = None
    """Only in the answer to a token exchange (RFC 8693, section 2.2.1)."""
    expires_in: float | str | None = None
    error: str = ""
    refresh_token: Any = None
    scope: Any = None

    @property
    def life(self) -> float:
        """Lifetime of the token in seconds; infinite if missing or malformed."""
        try:
            seconds = float(self.expires_in) if self.expires_in is not None else math.inf
        except ValueError:
            return math.inf
        return math.inf if math.isnan(seconds) else max(0.0, seconds)

    @property
    def refresh(self) -> str:
        """The refresh token; empty if there is no usable one."""
        given = self.refresh_token
        return given if isinstance(given, str) and _TOKEN.fullmatch(given) is not None else ""

    @property
    def granted(self) -> tuple[str, ...]:
        """The scopes of the token; empty if the answer does not say."""
        return scopes(self.scope.split()) if isinstance(self.scope, str) else ()


async def ask(
    fetcher: Fetcher, server: AuthorizationServer, credentials: Credentials, form: Mapping[str, str]
) -> EndpointAnswer:
    """Request a token, trying each client authentication method that may apply. Raises `Refused`."""
    refusal: Refused | None = None
    for method in credentials.methods(server.methods):
        members, headers = credentials.proof(method, _audience(server))
        try:
            answer = _read(*await fetcher.post(server.token_endpoint, {**form, **members}, headers))
        except Refused as failure:
            if failure.code != "invalid_client":
                raise
            refusal = failure
        else:
            credentials.took(method)
            return answer
    credentials.failed()
    assert refusal is not None, "there is always a method"
    raise refusal


async def revoke(
    fetcher: Fetcher, server: AuthorizationServer, credentials: Credentials, token: str, kind: str
) -> None:
    """Revoke a token; `kind`: `access_token` or `refresh_token`. Raises `Refused`."""
    endpoint = fetcher.address(server.revocation_endpoint)
    status = 0
    for method in credentials.methods(server.methods):
        members, headers = credentials.proof(method, _audience(server))
        form = {"token": token, "token_type_hint": kind, **members}
        status, _ = await fetcher.post(endpoint, form, headers)
        if status == 200:
            return
    raise Refused(f"HTTP {status}")


def _audience(server: AuthorizationServer) -> str:
    """The audience of an assertion: the issuer, or the token endpoint without one (RFC 7523, section 3)."""
    return server.issuer or str(server.token_endpoint)


def _read(status: int, body: bytes) -> EndpointAnswer:
    try:
        answer = msgspec.json.decode(body, type=EndpointAnswer)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        answer = None
    if status != 200:
        code = answer.error if answer is not None and answer.error in _ERRORS else ""
        raise Refused(f"HTTP {status}" + (f" ({code})" if code else ""), code=code if status in {400, 401} else "")
    if answer is None or _TOKEN.fullmatch(answer.access_token) is None:
        raise Refused("its answer has no usable access_token")
    if answer.token_type.lower() not in ("bearer", ""):
        raise Refused("its token is not a bearer token")
    return answer
