"""JSON values of sessions, for operators: without session ids, which are credentials."""

from __future__ import annotations

from typing import Any, Final

from gateway_core.downstream.sessions.live import LiveSession
from gateway_core.errors import RpcError
from gateway_core.mcp import jsonrpc

MAX_WORD: Final = 200
"""Characters of what a client says about itself."""


def session(of: LiveSession, now: float) -> dict[str, Any]:
    """One session. `now`: the time on the clock of its record."""
    record = of.record
    return {
        "key": record.key,
        "agent": record.owner,
        "verified": record.caller.principal is not None and record.caller.principal.verified,
        "profile": record.caller.profile,
        "client": _client(record.client_info),
        "protocol_version": record.protocol_version or None,
        "streams": record.streams,
        "calls": len(of.calls),
        "subscriptions": len(record.uris),
        "idle": None if record.busy else round(max(0.0, now - record.used), 1),
    }


def _client(info: bytes) -> str | None:
    """Name and version as the client says, or None."""
    if not info:
        return None
    try:
        members = jsonrpc.value(info)
    except RpcError:
        return None
    words = [members.get(name) for name in ("name", "version")] if isinstance(members, dict) else []
    return " ".join(word[:MAX_WORD] for word in words if isinstance(word, str)) or None
