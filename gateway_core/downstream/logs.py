"""The log level that an agent requests: a legacy agent sets it for its session (`logging/setLevel`), a modern agent
with each request (server/utilities/logging of both revisions)."""

from __future__ import annotations

from msgspec import Raw

from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LOG_LEVELS


def level_of(raw: Raw, what: str) -> str:
    """The log level in `raw`, a JSON string. Raises `RpcError(INVALID_PARAMS)` naming `what` if it is not one."""
    level = jsonrpc.text(raw, what)
    if level not in LOG_LEVELS:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be one of {', '.join(LOG_LEVELS)}")
    return level
