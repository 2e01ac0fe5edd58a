"""Asks an upstream, without a token, how it wants to be authorized."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Raw

from gateway_core.http1.client import field_names
from gateway_core.http1.media_types import EVENT_STREAM, JSON
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    LATEST_MODERN_VERSION,
    MCP_METHOD_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
)
from gateway_core.upstream.auth import Challenge
from gateway_core.upstream.request_body import modern_meta
from gateway_core.upstream.transports.client import HttpClient

_LIST: Final = "tools/list"
_PARAMS: Final[dict[str, Any]] = {"_meta": modern_meta(LATEST_MODERN_VERSION, {})}


async def challenge_of(http: HttpClient, *, is_sse: bool) -> Challenge:
    """The challenge of an upstream; an empty one if it answers no request with 401. Raises `DeliveryError`.

    `http` has no tokens. The requests execute nothing: a list in the modern form, and the GET of both HTTP transports.
    """
    post: dict[str, str] = {
        field_names.ACCEPT: f"{JSON}, {EVENT_STREAM}",
        field_names.CONTENT_TYPE: JSON,
        MCP_PROTOCOL_VERSION_HEADER: LATEST_MODERN_VERSION,
        MCP_METHOD_HEADER: _LIST,
    }
    get: dict[str, str] = {field_names.ACCEPT: EVENT_STREAM}
    requests: list[tuple[str, dict[str, str], bytes | None]] = [("GET", get, None)]
    if not is_sse:
        requests.insert(0, ("POST", post, jsonrpc.request(Raw(b"1"), _LIST, _PARAMS)))
    for verb, headers, body in requests:
        response = await http.open(verb, headers, body=body)
        response.close()
        if response.status == 401:
            return Challenge.of(response.headers.getall(field_names.WWW_AUTHENTICATE, ()))
    return Challenge()
