"""Token requests and responses (RFC 6749, section 4.4.2)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

import msgspec

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
    token_type: str = "bearer"  # noqa: S105 - a token type, not a token
    expires_in: float | str | None = None
    error: str = ""

    @property
    def life(self) -> float:
        """Lifetime of the token in seconds; infinite if missing or malformed."""
        try:
            seconds = float(self.expires_in) if self.expires_in is not None else math.inf
        except ValueError:
            return math.inf
        return math.inf if math.isnan(seconds) else max(0.0, seconds)


async def ask(
    fetcher: Fetcher, server: AuthorizationServer, credentials: Credentials, scopes: Iterable[str], resource: str
) -> EndpointAnswer:
    """Request a token, trying each client authentication method that may apply. Raises `Refused`."""
    form = {"grant_type": "client_credentials"}
    if scope := " ".join(scopes):
        form["scope"] = scope
    if resource:
        form["resource"] = resource
    refusal: Refused | None = None
    for method in credentials.methods(server.methods):
        # The audience is the issuer, or the endpoint's URL if the issuer is unknown (RFC 7523, section 3).
        members, headers = credentials.proof(method, server.issuer or str(server.token_endpoint))
        try:
            answer = _read(*await fetcher.post(server.token_endpoint, form | members, headers))
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
    if answer.token_type.lower() != "bearer":
        raise Refused("its token is not a bearer token")
    return answer
