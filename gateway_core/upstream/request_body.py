"""What the body of one request to an upstream says: `params` with the `_meta` that the hop to it needs."""

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
from gateway_core.upstream.base import Host, ServerInfo
from gateway_core.upstream.capabilities import for_modern
from gateway_core.upstream.requests import Request


def modern_meta(version: str, capabilities: Mapping[str, Any] | Raw) -> dict[str, Any]:
    """The members of `_meta` that every request to a modern server has (basic/index, `_meta`)."""
    return {
        PROTOCOL_VERSION_KEY: version,
        CLIENT_INFO_KEY: IMPLEMENTATION,
        CLIENT_CAPABILITIES_KEY: capabilities,
    }


def declared(exchange: Exchange | None, host: Host) -> Mapping[str, Any] | Raw:
    """What one request to a modern server declares: the capabilities of the agent behind it, if there is one."""
    return host.capabilities if exchange is None else for_modern(exchange.agent)


def template(request: Request, info: ServerInfo, capabilities: Mapping[str, Any] | Raw) -> bytes | None:
    """A request as `Template.body` has it; None where something in it looks like what is to be filled in."""
    number = Raw(b"%d")
    complete = with_meta(request.params, info, capabilities, {IDEMPOTENCY_KEY: Raw(b'"%b"')}, number)
    before, mark, after = jsonrpc.request(number, request.method, complete).rpartition(b',"_meta":{')
    body = b"%b%%b%b%%b%b" % (before, mark, after)
    return body if mark and body.count(b"%") == 5 else None


def filling(request: Request, number: int) -> tuple[int, bytes, bytes, bytes, int]:
    """What goes into the gaps of a template."""
    meta, arguments = request.meta, request.arguments
    own = b""
    if meta and not _HOP_KEYS.issuperset(meta):
        passed = {key: value for key, value in meta.items() if _passes(key) and key != IDEMPOTENCY_KEY}
        own = jsonrpc.encode(passed)[1:-1] + b"," if passed else b""
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
"""The usual keys of `_meta` that are not passed on as they came."""


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
    """`params`, which have no `_meta`, with the one that a request to the server `info` describes needs, if any.

    `log_level`: the least severe log messages that the agent behind it wants; empty for none. `key`: see `Request.key`.
    The agent's own keys pass (`traceparent` and vendors' keys among them), except those that belong to one hop
    (basic/index, `_meta`): `progressToken` and everything reserved, which are the gateway's own here.
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
