"""Removes `_meta` keys that an upstream may not set for agents.

Agents trust the gateway's own keys, for example to learn which upstream asks or whether a tool ran. Other reserved keys
describe one hop: the connection between the gateway and the upstream, not the one to the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw

from gateway_core.errors import RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    OWN_PREFIX,
    PROTOCOL_VERSION_KEY,
    RESERVED_PREFIX,
    SERVER_INFO_KEY,
    SUBSCRIPTION_ID_KEY,
)

HOP_KEYS: Final = frozenset(
    {
        PROTOCOL_VERSION_KEY,
        CLIENT_INFO_KEY,
        CLIENT_CAPABILITIES_KEY,
        SERVER_INFO_KEY,
        SUBSCRIPTION_ID_KEY,
        LOG_LEVEL_KEY,
    }
)
"""Keys of `_meta` that describe the hop that a message came over, not its content."""
_OWN_WORD: Final = OWN_PREFIX.rstrip("/").encode()
"""Every key that the gateway writes contains this word, unless the key is escaped."""
_HOP_WORD: Final = RESERVED_PREFIX.rstrip("/").encode()


def is_own(key: str) -> bool:
    """Whether a key of `_meta` belongs to the gateway."""
    return key.startswith(OWN_PREFIX)


def is_reserved(key: str) -> bool:
    """Whether a key of `_meta` belongs to the gateway or to one hop."""
    return key in HOP_KEYS or key.startswith(OWN_PREFIX)


def without_own(raw: bytes) -> bytes:
    """An object without the gateway's keys in its `_meta`; the same bytes if it has none or is malformed."""
    return _without(raw, is_own) if jsonrpc.has(raw, _OWN_WORD) else raw


def without_reserved(raw: bytes) -> bytes:
    """The same for all keys for which `is_reserved` is true."""
    return _without(raw, is_reserved) if jsonrpc.has(raw, _OWN_WORD) or jsonrpc.has(raw, _HOP_WORD) else raw


def allowed(meta: Mapping[str, Raw]) -> dict[str, Raw]:
    """The members of a `_meta` for which `is_reserved` is false."""
    return {key: value for key, value in meta.items() if not is_reserved(key)}


def _without(raw: bytes, unwanted: Callable[[str], bool]) -> bytes:
    try:
        members = jsonrpc.members(raw)
        meta = jsonrpc.members(members.get("_meta", Raw()))
    except RpcError:
        return raw  # the agent gets it unchanged, or the caller refuses it
    kept = {key: value for key, value in meta.items() if not unwanted(key)}
    if len(kept) == len(meta):
        return raw
    if kept:
        members["_meta"] = Raw(jsonrpc.encode(kept))
    else:
        del members["_meta"]
    return jsonrpc.encode(members)
