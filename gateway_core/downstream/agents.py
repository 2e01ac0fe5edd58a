"""The identity of an agent, claimed or proven, and the steps from its request to an exchange."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.api import Principal
from gateway_core.downstream.auth.caller import Caller
from gateway_core.errors import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError
from gateway_core.exchange.back import BackChannel
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.jsonrpc import Message
from gateway_core.mcp.names import LOG_LEVELS, METHODS, TASKS

MAX_NAME: Final = 64
MAX_READ: Final = 4 * MAX_NAME
"""Characters of a claimed name in which printable ones are searched: the search takes time for each character."""
MAX_CLAIM: Final = 64 * 1024
"""Maximum bytes of `clientInfo`, and of the capabilities."""
NO_META: Final[Mapping[str, Raw]] = {}


class _ClientInfo(msgspec.Struct):
    name: str = ""
    version: str = ""


_INFO: Final = msgspec.json.Decoder(_ClientInfo)


def principal_of(client_info: bytes, caller: Caller) -> Principal:
    """The principal of a client: the one that its credentials prove, or what its `Implementation` claims.

    Clients without proof that present different secrets for upstreams are different principals.
    """
    try:
        info = _INFO.decode(client_info) if client_info else _ClientInfo()
    except (msgspec.DecodeError, RecursionError):
        info = _ClientInfo()
    name, version, address = _printable(info.name), _printable(info.version), caller.address
    if caller.principal is not None:
        principal = caller.principal
    else:
        claimed, digest = _identity(info.name, name), caller.presented.headers_digest
        if digest:
            claimed = f"{claimed}~{digest}"
        principal = Principal(id=f"{claimed}@{address}")
    return replace(principal, client_name=name, client_version=version, address=address, profile=caller.profile)


def _identity(claimed: str, printable: str) -> str:
    """The form of a claimed name in the id of a principal; it differs for different names.

    A name that is not printable as it is gets a digest of the whole name, and so does one that looks like that. None
    has a `|`, as ids of verified principals have.
    """
    if claimed == printable and "~" not in claimed and "|" not in claimed:
        return claimed or "unknown"
    digest = hashlib.sha256(claimed.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{printable.replace('|', '') or 'unknown'}~{digest}"


def _printable(text: str) -> str:
    """Printable ASCII of at most `MAX_NAME` characters, for logs and as keys of limits."""
    return "".join(char for char in text[:MAX_READ] if " " <= char <= "~")[:MAX_NAME].strip()


def require_object(raw: Raw | bytes | None, what: str) -> bytes:
    """The JSON of an optional member that must be an object; empty if absent.

    Raises `RpcError(INVALID_PARAMS)`, also if it is larger than `MAX_CLAIM`: what an agent says of itself is kept as
    long as its session.
    """
    data = bytes(raw) if raw is not None else b""
    if data and data[:1] != b"{":
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be an object")
    if len(data) > MAX_CLAIM:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} is larger than {MAX_CLAIM} bytes")
    return data


def meta_of(params: Mapping[str, Raw]) -> Mapping[str, Raw]:
    """The members of `_meta`; empty if it is absent or not an object. Raises `RpcError` if it is malformed."""
    data = bytes(params.get("_meta", b""))
    return jsonrpc.members(data) if data[:1] == b"{" else NO_META


def exchange_for(
    agent: Agent,
    message: Message,
    meta: Mapping[str, Raw],
    back: BackChannel,
    *,
    headers: tuple[tuple[str, str], ...] | None = None,
    log_level: str = "",
) -> Exchange:
    """The exchange of one request; `meta` are the members of its `_meta`, `headers` its `Mcp-Param-*` headers.

    `log_level` is the level that a legacy agent has set, or that a modern agent requests with this request. Raises
    `RpcError(METHOD_NOT_FOUND)` for a method that the gateway does not serve in the agent's era.
    """
    if message.method not in METHODS or (agent.era == "legacy" and message.method in TASKS):
        raise RpcError.of_gateway(METHOD_NOT_FOUND, f"unknown method: {message.method[:100]}")
    token = _token(meta["progressToken"]) if "progressToken" in meta else b""
    return Exchange(agent, message.method, back, token, headers, log_level, meta)


def _token(raw: Raw) -> bytes:
    """The JSON of a progress token if it is a string or an integer; otherwise empty."""
    token = bytes(raw)
    return token if token[:1] == b'"' or token.lstrip(b"-").isdigit() else b""


def level_of(raw: Raw, what: str) -> str:
    """The log level in `raw`, a JSON string. Raises `RpcError(INVALID_PARAMS)` naming `what` if it is not one.

    A legacy agent sets it for its session (`logging/setLevel`), a modern agent with each request
    (server/utilities/logging of both revisions).
    """
    level = jsonrpc.text(raw, what)
    if level not in LOG_LEVELS:
        raise RpcError.of_gateway(INVALID_PARAMS, f"{what} must be one of {', '.join(LOG_LEVELS)}")
    return level
