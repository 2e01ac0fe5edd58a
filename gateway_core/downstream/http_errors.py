"""HTTP errors whose body is a JSON-RPC error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY,
    OVERLOADED,
    PARSE_ERROR,
    UNSUPPORTED_PROTOCOL_VERSION,
    RpcError,
    TooManyCalls,
    TooManySessions,
    overloaded,
)
from gateway_core.http1.head import HttpError
from gateway_core.http1.response import Response
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message

STATUS_OF: Final[Mapping[int, int]] = {
    **dict.fromkeys((PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, HEADER_MISMATCH), 400),
    **dict.fromkeys((MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION), 400),
    METHOD_NOT_FOUND: 404,
}
"""JSON-RPC error code -> HTTP status, where the specification gives one (transports/streamable-http)."""


class RpcHttpError(HttpError):
    """An HTTP error whose body is a given JSON-RPC error."""

    def __init__(
        self,
        status: int,
        error: RpcError,
        *,
        message: Message | None = None,
        headers: Mapping[str, str] | None = None,
        close: bool = False,
    ) -> None:
        """`message`: the request whose id the error carries; None if the request could not be read."""
        super().__init__(status, error.message, headers=headers, close=close)
        self.error = error
        self.request = message

    @classmethod
    def of(cls, error: RpcError, message: Message | None = None) -> RpcHttpError:
        """Choose the status: 429 for the agent's own limit, 503 for any other limit, else by `STATUS_OF` or 400."""
        if error.code == OVERLOADED:
            own = isinstance(error, TooManyCalls) or (isinstance(error, TooManySessions) and not error.everybody)
            return busy(error, 429 if own else 503, message=message)
        return cls(STATUS_OF.get(error.code, 400), error, message=message)


def busy(
    problem: RpcError | str, status: int = 503, *, message: Message | None = None, close: bool = False
) -> RpcHttpError:
    """The error for a limit of the gateway. `Retry-After` is `retryAfterMs` of the error, rounded up to seconds."""
    error = overloaded(problem) if isinstance(problem, str) else problem
    wait = error.data.get("retryAfterMs") if isinstance(error.data, dict) else None
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait / 1000))}
    return RpcHttpError(status, error, message=message, headers=headers, close=close)


def response_of(error: HttpError) -> Response:
    """The response that reports `error`."""
    if isinstance(error, RpcHttpError):
        request_id = error.request.id if error.request is not None else None
        body = jsonrpc.error(request_id, error.error)
    else:
        body = jsonrpc.error(None, RpcError.of_gateway(INVALID_REQUEST, error.message))
    return Response(body, error.status, error.headers, error.close)
