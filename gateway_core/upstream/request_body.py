"""Builds the body of a request to an upstream: `params` with the `_meta` that its era requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Raw

from gateway_core.exchange.exchange import Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    IDEMPOTENCY_KEY,
    IMPLEMENTATION,
    LOG_LEVEL_KEY,
    PROTOCOL_VERSION_KEY,
    RESERVED_PREFIX,
)
from gateway_core.upstream.base import ClientContext, ServerInfo
from gateway_core.upstream.capabilities import for_modern
from gateway_core.upstream.requests import Request


def modern_meta(version: str, capabilities: Mapping[str, Any] | Raw) -> dict[str, Any]:
    """The required `_meta` members of a request to a modern server (basic/index, `_meta`)."""
    return {
        PROTOCOL_VERSION_KEY: version,
        CLIENT_INFO_KEY: IMPLEMENTATION,
        CLIENT_CAPABILITIES_KEY: capabilities,
    }


def declared(exchange: Exchange | None, context: ClientContext) -> Mapping[str, Any] | Raw:
    """The capabilities in a request to a modern server: the agent's, or the connection's without an exchange."""
    return context.capabilities if exchange is None else for_modern(exchange.agent)


def template(request: Request, info: ServerInfo, capabilities: Mapping[str, Any] | Raw) -> bytes | None:
    """The request as a `Template.body`; None if its content has a `%`, or its params are empty."""
    number = Raw(b"%d")
    complete = with_meta(request.params, info, capabilities, {IDEMPOTENCY_KEY: Raw(b'"%b"')}, number)
    before, mark, after = jsonrpc.request(number, request.method, complete).rpartition(b',"_meta":{')
    body = b"%b%%b%b%%b%b" % (before, mark, after)
    return body if mark and body.count(b"%") == 5 else None


def filling(request: Request, number: int) -> tuple[int, bytes, bytes, bytes, int]:
    """The values for the gaps of a `Template.body`, in order."""
    meta, arguments = request.meta, request.arguments
    own = request.carried.members
    if meta and not _HOP_KEYS.issuperset(meta):
        passed = {key: value for key, value in meta.items() if _passes(key) and key != IDEMPOTENCY_KEY}
        own = jsonrpc.encode(passed)[1:-1] + b"," + own if passed else own
    return number, b',"arguments":' + arguments if arguments else b"", own, request.key.encode(), number


_HOP_KEYS: Final = frozenset(
    {
        "progressToken",
        PROTOCOL_VERSION_KEY,
        CLIENT_INFO_KEY,
        CLIENT_CAPABILITIES_KEY,
        LOG_LEVEL_KEY,
        IDEMPOTENCY_KEY,
    }
)
"""Common `_meta` keys that are not passed on; a fast path before `_passes`."""


def _passes(key: str) -> bool:
    return key != "progressToken" and not key.startswith(RESERVED_PREFIX)


def with_meta(
    params: Mapping[str, Any],
    info: ServerInfo,
    capabilities: Mapping[str, Any] | Raw,
    agent_meta: Mapping[str, Any] | None = None,
    progress_token: int | Raw | None = None,
    *,
    log_level: str = "",
    key: str = "",
) -> Mapping[str, Any]:
    """`params`, which lack `_meta`, with the `_meta` that the server described by `info` needs, if any.

    `log_level`: the least severe log level that the agent wants; empty for none. `key`: see `Request.key`.
    The agent's keys pass (`traceparent` and vendor keys among them), except keys that belong to one hop
    (basic/index, `_meta`): the gateway replaces `progressToken` and all reserved keys with its own.
    """
    meta: dict[str, Any] = {}
    if agent_meta:
        meta = {key: value for key, value in agent_meta.items() if _passes(key)}
    if key:
        meta[IDEMPOTENCY_KEY] = key
    if progress_token is not None:
        meta["progressToken"] = progress_token
    if info.era == "modern":
        meta |= modern_meta(info.protocol_version, capabilities)
        if log_level:
            meta[LOG_LEVEL_KEY] = log_level
    return {**params, "_meta": meta} if meta else params
