"""Names the upstream in the questions that it asks an agent."""

from __future__ import annotations

from msgspec import Raw

from gateway_core.errors import RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import UPSTREAM_KEY
from gateway_core.mcp.reserved import allowed


def naming(upstream: str, params: bytes) -> bytes:
    """Add the name of the upstream to the params of its question, since agents see only the gateway.

    Other keys of `_meta` that upstreams may not set are removed.

    Returns `params` unchanged if they or their `_meta` are not an object; the agent then refuses them.
    """
    try:
        members = jsonrpc.members(params)
        meta = jsonrpc.members(members.get("_meta", Raw()))
    except RpcError:
        return params
    meta = allowed(meta)
    meta[UPSTREAM_KEY] = Raw(jsonrpc.encode(upstream))
    return jsonrpc.encode(members | {"_meta": Raw(jsonrpc.encode(meta))})
