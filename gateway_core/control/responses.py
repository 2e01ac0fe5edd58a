"""The JSON responses of the control plane, and their one form of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from aiohttp import web

from gateway_core.http1.media_types import JSON
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import IMPLEMENTATION

R = TypeVar("R", bound=web.StreamResponse)


def json_response(
    value: Any,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    clean: Callable[[bytes], bytes] = bytes,
) -> web.Response:
    """A response with `value` as its body. `clean`: removes secrets from it."""
    body = clean(jsonrpc.encode(value))
    return web.Response(body=body, status=status, headers=headers, content_type=JSON)


def error_response(text: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error without details."""
    return json_response({"error": text}, status, headers)


def last_on_connection(response: R) -> R:
    """Make a response, whose head was not sent yet, end its connection."""
    response.headers["Server"] = IMPLEMENTATION["name"]
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers.setdefault("Cache-Control", "no-store")
    response.force_close()
    return response
