"""Cross-origin requests of web pages (Fetch, CORS protocol): answers to preflights, and headers of all other responses.

`HostGuard` decides which origins may send requests. The functions here pass its decision on to the browser, so call
them for allowed origins only. Credentials are not allowed, because the gateway uses no cookies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway_core.http1.head import RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.tokens import TOKEN
from gateway_core.mcp.names import MCP_PARAM_HEADER_PREFIX, MCP_SESSION_ID_HEADER

MAX_AGE: Final = 7200
"""Seconds for which a browser may keep the answer to a preflight; Chromium allows no more."""

_EXPOSED: Final = f"{MCP_SESSION_ID_HEADER}, Retry-After, WWW-Authenticate"
"""Response headers that an MCP client reads; a page sees no others besides Content-Type and the like."""
_ALLOWED: Final = (
    *("Accept", "Authorization", "Content-Type", "Last-Event-ID"),
    *(MCP_SESSION_ID_HEADER, "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"),
    *("traceparent", "tracestate", "baggage", "X-Request-Id"),
)
"""Request headers that an MCP client sends. Others are refused: a proxy before the gateway may trust them."""
_PARAM: Final = re.compile(re.escape(MCP_PARAM_HEADER_PREFIX) + TOKEN, re.IGNORECASE)
_METHOD: Final = "access-control-request-method"
_HEADERS: Final = "access-control-request-headers"
_PRIVATE: Final = "access-control-request-private-network"


def response_headers(origin: str) -> Mapping[str, str]:
    """The headers that let a page of `origin` read a response."""
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED, "Vary": "Origin"}


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks for permission to send another request."""
    return head.method == "OPTIONS" and "origin" in head.fields and _METHOD in head.fields


def preflight(head: RequestHead, methods: Sequence[str], credentials: Sequence[str] = ()) -> Response:
    """The answer to a preflight. `methods`: those of the address. `credentials`: headers that authenticators read."""
    requested = (name.strip(" \t") for name in head.fields.get(_HEADERS, "").split(","))
    mirrored = dict.fromkeys(name for name in requested if _PARAM.fullmatch(name))
    headers = {
        "Access-Control-Allow-Methods": ", ".join(methods),
        "Access-Control-Allow-Headers": ", ".join((*_ALLOWED, *credentials, *mirrored)),
        "Access-Control-Max-Age": str(MAX_AGE),
    }
    if head.fields.get(_PRIVATE, "").lower() == "true":  # Private Network Access: from a public to a local address
        headers["Access-Control-Allow-Private-Network"] = "true"
    return Response(status=204, headers=headers)
