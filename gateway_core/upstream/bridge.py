"""Translates results and errors of one era for agents of the other.

Works on bytes: it splits a result object into members and joins them again. The values keep the received bytes.
Sources: basic/index (Result Responses, Error Codes, `_meta`), server/utilities/caching,
basic/patterns/mrtr, server/resources (Error Handling), server/tools (structured content).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.api import Era
from gateway_core.errors import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    MISSING_CLIENT_CAPABILITY,
    OWN_CODES,
    RESOURCE_NOT_FOUND_LEGACY,
    UNSUPPORTED_PROTOCOL_VERSION,
    UPSTREAM_FAILED,
    UPSTREAM_UNAVAILABLE,
    URL_ELICITATION_REQUIRED,
    RpcError,
)
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import (
    CACHEABLE,
    MAY_ASK,
    MAY_BECOME_TASKS,
    SERVER_INFO_KEY,
    TASKS,
    TOOLS_CALL,
)
from gateway_core.mcp.reserved import HOP_KEYS, is_own, without_own

_COMPLETE: Final = Raw(b'"complete"')
_NO_CONTENT: Final = Raw(b"[]")
_NEVER_FRESH: Final = Raw(b"0")
_PRIVATE: Final = Raw(b'"private"')
_SCOPES: Final = frozenset({b'"private"', b'"public"'})
_HOP_ERRORS: Final = frozenset({HEADER_MISMATCH, UNSUPPORTED_PROTOCOL_VERSION})

MAX_REMEMBERED: Final = 1024
"""Bytes of the largest `_meta` whose translation is cached: servers often repeat it in every result."""


def bridge_result(
    method: str,
    raw: bytes,
    from_era: Era | None,
    to_era: Era,
    members: dict[str, Raw] | None = None,
    *,
    server: bytes | None = None,
    tasks: bool = False,
) -> bytes:
    """Translate the result object `raw` of `method` for an agent of `to_era`.

    `from_era` is the upstream's era; None for a result made by the gateway or a plugin. `members` are those of `raw`,
    if already parsed and known to be neither a question nor a task; this function modifies them. `server` is the JSON
    of the `Implementation` that modern agents get in `_meta`. `tasks`: a task may replace the result.
    A legacy result for a legacy agent keeps its bytes, except for `_meta` keys reserved for the gateway.

    Raises `RpcError(UPSTREAM_FAILED)` for a result that the agent could not interpret: not an object, an unknown
    `resultType`, a question that is not allowed or cannot be passed on.
    """
    if from_era == "legacy" and to_era == "legacy":
        if raw.lstrip()[:1] != b"{":
            raise _invalid("its result is not an object")
        return without_own(raw)
    complete = True
    if members is None:
        members = _members(raw)
        # Legacy servers have no result types: a member of that name is application data, and is overwritten.
        complete = from_era == "legacy" or _is_complete(method, members, to_era, tasks)
    if to_era == "legacy":
        _strip_modern(method, members)
    elif complete:
        members["resultType"] = _COMPLETE
        if method == TOOLS_CALL and from_era == "legacy" and "content" not in members:
            members["content"] = _NO_CONTENT  # clients of legacy servers do without it, those of modern ones do not
        if method in CACHEABLE:
            _complete_caching(members, trusted=from_era != "legacy")
    if from_era is not None and method in TASKS and "result" in members:
        members["result"] = Raw(without_own(bytes(members["result"])))  # of the tool that became a task
    meta = members.pop("_meta", None)
    if meta is not None or to_era == "modern":
        data = b"" if meta is None else bytes(meta)
        own_meta = _own_meta if len(data) <= MAX_REMEMBERED else _made_meta
        own = own_meta(data, server if to_era == "modern" else None, from_era is not None)
        if own is not None:
            members["_meta"] = own
    return jsonrpc.encode(members)


def _members(raw: bytes) -> dict[str, Raw]:
    try:
        members = jsonrpc.members(raw)
    except RpcError:
        members = {}
    if not members and raw.strip() != b"{}":
        raise _invalid("its result is not an object")
    return members


def _is_complete(method: str, members: Mapping[str, Raw], to_era: Era, tasks: bool) -> bool:
    """Whether the result is final, not a question or a task. An absent type means `complete`."""
    raw_type = members.get("resultType")
    if raw_type is None or raw_type == _COMPLETE:
        return True
    try:
        result_type = msgspec.json.decode(raw_type, type=str)
    except msgspec.DecodeError:
        raise _invalid("its resultType is not a string") from None
    # SEP-2663 requires `complete` in every answer about a task, but some of its examples say `task`.
    if result_type == "complete" or (result_type == "task" and method in TASKS):
        return True
    if result_type == "task":
        if method not in MAY_BECOME_TASKS:
            raise _invalid(f"it may not make a task of {method}")
        if not tasks:
            raise _invalid("it made a task of the call, which this client did not say that it can follow")
        return False
    if result_type != "input_required":
        raise _invalid(f"unknown resultType {result_type[:40]!r}")
    if method not in MAY_ASK:
        raise _invalid(f"it may not ask for input on {method}")
    if to_era == "legacy":
        raise _invalid("it asks for input during the call, which cannot be passed to this client")
    return False


def _made_meta(raw: bytes, server: bytes | None, foreign: bool) -> Raw | None:
    """The `_meta` of a result without hop-specific keys, and with `server` as its `serverInfo`; None if empty.

    `foreign`: an upstream wrote it, so the keys reserved for the gateway are removed, too.
    """
    try:
        meta = {} if raw == b"null" else jsonrpc.members(raw)  # some servers write null for an absent member
    except RpcError:
        raise _invalid("its _meta is not an object") from None
    own = {key: value for key, value in meta.items() if key not in HOP_KEYS and not (foreign and is_own(key))}
    if server is not None:
        own[SERVER_INFO_KEY] = Raw(server)
    return Raw(jsonrpc.encode(own)) if own else None


_own_meta = lru_cache(maxsize=256)(_made_meta)


def _complete_caching(members: dict[str, Raw], *, trusted: bool) -> None:
    ttl = bytes(members.get("ttlMs", b"")) if trusted else b""
    if not ttl.isdigit():
        members["ttlMs"] = _NEVER_FRESH
    if not trusted or bytes(members.get("cacheScope", b"")) not in _SCOPES:
        members["cacheScope"] = _PRIVATE


def _strip_modern(method: str, members: dict[str, Raw]) -> None:
    members.pop("resultType", None)
    if method in CACHEABLE:
        members.pop("ttlMs", None)
        members.pop("cacheScope", None)
    if "structuredContent" in members and method == "tools/call" and bytes(members["structuredContent"])[:1] != b"{":
        # Until 2025-11-25 it must be an object; legacy clients would reject the whole result. The text stays.
        del members["structuredContent"]


def _invalid(what: str) -> RpcError:
    return RpcError.of_gateway(UPSTREAM_FAILED, f"the upstream's answer is invalid: {what}")


def foreign_error(error: RpcError) -> RpcError:
    """An upstream's error without the gateway's own codes and without `source: gateway`.

    Agents decide by these codes whether to retry. A code of the gateway becomes -32603, with the upstream's code in
    `data.upstreamCode`.
    """
    data = error.data
    if isinstance(data, dict) and data.get("source") == "gateway":
        data = {key: value for key, value in data.items() if key != "source"}
    if error.code in OWN_CODES:
        data = data if isinstance(data, dict) else {} if data is None else {"data": data}
        return RpcError(INTERNAL_ERROR, error.message, {**data, "upstreamCode": error.code})
    return error if data is error.data else RpcError(error.code, error.message, data or None)


def bridge_error(error: RpcError, from_era: Era | None, to_era: Era) -> RpcError:
    """Translate an upstream's error for an agent of `to_era` (basic/index, Error Codes).

    `from_era`: the upstream's era. A legacy server chooses its codes below -32000 itself, so they prove nothing.
    A missing resource is -32002 for legacy agents and -32602 for modern ones. Errors about the hop between gateway
    and upstream (headers, versions) become errors of the gateway: the agent would look for a fault in its
    valid request. A missing capability passes to modern agents, because the upstream gets the agent's capabilities;
    legacy agents do not know that code. Codes that the modern revision does not define become -32603, with the
    upstream's code in `data.upstreamCode`.
    """
    defined = from_era != "legacy"
    if defined and (error.code in _HOP_ERRORS or (error.code == MISSING_CLIENT_CAPABILITY and to_era == "legacy")):
        return RpcError.of_gateway(
            UPSTREAM_UNAVAILABLE,
            f"the upstream refused the gateway's request, it was not executed: {error.message}",
            upstreamCode=error.code,
        )
    return _towards_legacy(error) if to_era == "legacy" else _towards_modern(error, defined)


def _towards_legacy(error: RpcError) -> RpcError:
    # Only "not found" has the URI alone as its data; a legacy -32602 for wrong parameters stays unchanged.
    not_found = error.code == INVALID_PARAMS and isinstance(error.data, dict) and set(error.data) == {"uri"}
    return RpcError(RESOURCE_NOT_FOUND_LEGACY, error.message, error.data) if not_found else error


def _towards_modern(error: RpcError, defined: bool) -> RpcError:
    """`defined`: whether the upstream uses the codes that the modern revision defines."""
    if error.code == RESOURCE_NOT_FOUND_LEGACY:
        return RpcError(INVALID_PARAMS, error.message, error.data)
    if error.code == URL_ELICITATION_REQUIRED:
        return RpcError.of_gateway(
            UPSTREAM_FAILED,
            f"the upstream asks the user to open a URL, which this client cannot be asked: {error.message}",
            upstreamCode=error.code,
        )
    if -32099 <= error.code <= -32020 and not (defined and error.code == MISSING_CLIENT_CAPABILITY):
        data = error.data if isinstance(error.data, dict) else {} if error.data is None else {"data": error.data}
        return RpcError(INTERNAL_ERROR, error.message, {**data, "upstreamCode": error.code})
    return error
