"""Admission checks of every modern request, in this order; the first that fails decides the error.

1. `_meta` has the version and the capabilities (basic/index, Per-request protocol fields).
2. The headers match the body, so that they cannot mislead a router (transports/streamable-http, Server Validation). A
   mismatch is reported before an unsupported version.
3. The version is supported (basic/versioning).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway_core.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    UNSUPPORTED_PROTOCOL_VERSION,
    RpcError,
)
from gateway_core.mcp.header_values import decode_header_value
from gateway_core.mcp.names import (
    CLIENT_CAPABILITIES_KEY,
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    MODERN_PROTOCOL_VERSIONS,
    NAME_MEMBERS,
    PROTOCOL_VERSION_KEY,
    TASKS,
)

HEADERS: Final = (MCP_PROTOCOL_VERSION_HEADER, MCP_METHOD_HEADER, MCP_NAME_HEADER)
"""Headers that repeat members of the body."""


def check(method: str, name: Any, meta: Mapping[str, object], version: Any, headers: Mapping[str, str] | None) -> str:
    """Run the admission checks; returns the version of the request. Raises `RpcError` if a check fails.

    `name`: the member of its params that `Mcp-Name` repeats; None if absent. `version`: its value in `meta`.
    `headers`: by lower-case name; None for transports without headers.
    """
    if PROTOCOL_VERSION_KEY not in meta or CLIENT_CAPABILITIES_KEY not in meta:
        missing = [key for key in (PROTOCOL_VERSION_KEY, CLIENT_CAPABILITIES_KEY) if key not in meta]
        raise RpcError.of_gateway(INVALID_PARAMS, f"params._meta is missing {' and '.join(missing)}")
    if headers is not None:
        _compare(method, name, version, headers)
    if not isinstance(version, str):
        raise RpcError.of_gateway(INVALID_PARAMS, f"params._meta[{PROTOCOL_VERSION_KEY!r}] must be a string")
    require_supported(version)
    return version


def _compare(method: str, name: Any, version: Any, headers: Mapping[str, str]) -> None:
    said = headers.get(MCP_PROTOCOL_VERSION_HEADER)
    if said is None or said != version:
        raise _mismatch("MCP-Protocol-Version", f"params._meta[{PROTOCOL_VERSION_KEY!r}]")
    if headers.get(MCP_METHOD_HEADER) != method:
        raise _mismatch("Mcp-Method", "the method")
    named = NAME_MEMBERS.get(method)
    if named is not None and (name is not None or method in TASKS):
        said = headers.get(MCP_NAME_HEADER)
        if said is not None and said.startswith("=?"):
            said = decode_header_value(said)
        if said is None or said != name:
            raise _mismatch("Mcp-Name", f"params.{named}")


def _mismatch(header: str, body: str) -> RpcError:
    return RpcError.of_gateway(HEADER_MISMATCH, f"the header {header} does not match {body}")


def require_supported(version: str) -> None:
    """Raise `RpcError(UNSUPPORTED_PROTOCOL_VERSION)` unless the gateway supports this modern version."""
    if version not in MODERN_PROTOCOL_VERSIONS:
        supported = list(MODERN_PROTOCOL_VERSIONS)
        raise RpcError.of_gateway(
            UNSUPPORTED_PROTOCOL_VERSION, "Unsupported protocol version", supported=supported, requested=version
        )
