"""The two handshakes with a server: `server/discover` (modern) and `initialize` (legacy).

`negotiation.negotiate` chooses between them. Sources: basic/versioning; 2025-11-25, basic/lifecycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from msgspec import Raw

from gateway_core.errors import (
    HEADER_MISMATCH,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
    UPSTREAM_FAILED,
    RpcError,
)
from gateway_core.mcp.cache_hints import hint_of
from gateway_core.mcp.names import (
    DISCOVER,
    HANDSHAKE_PROTOCOL_VERSIONS,
    IMPLEMENTATION,
    INITIALIZE,
    LATEST_HANDSHAKE_VERSION,
    MODERN_PROTOCOL_VERSIONS,
    SERVER_INFO_KEY,
)
from gateway_core.upstream.base import NoMcpAnswer, ServerInfo
from gateway_core.upstream.request_body import modern_meta
from gateway_core.upstream.requests import Reply

MAX_CAPABILITIES: Final = 64 * 1024
"""Maximum bytes of a server's capabilities."""
MAX_INSTRUCTIONS: Final = 32 * 1024
"""Characters of a server's instructions that agents get."""
MAX_NAME: Final = 256
"""Characters that are kept of a server's name and of its version."""


class Wire(Protocol):
    """A transport during the negotiation."""

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        """Send one request; `params` are complete, including `_meta`. Raises `DeliveryError`."""

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """Send one notification. Raises `DeliveryError`."""

    def adopt(self, protocol_version: str) -> None:
        """Use this protocol version from now on; it determines headers and the form of a cancellation."""


class _Implementation(msgspec.Struct):
    name: str = ""
    version: str = ""


class Initialized(msgspec.Struct, rename="camel"):
    """The result of `initialize`. Its capabilities are an object in JSON."""

    protocol_version: str
    capabilities: Raw
    server_info: _Implementation = msgspec.field(default_factory=_Implementation)
    instructions: str | None = None


class _Discovered(msgspec.Struct, rename="camel"):
    supported_versions: list[str]
    capabilities: Raw
    instructions: str | None = None
    ttl_ms: Any = None
    cache_scope: Any = None
    meta: dict[str, Raw] = msgspec.field(name="_meta", default_factory=dict)


async def probe(wire: Wire, capabilities: Mapping[str, Any], version: str) -> ServerInfo | None:
    """Send `server/discover`, and again with a version that the server names. Returns None if the server is legacy.

    Raises `RpcError` if a modern server refuses the gateway: the caller must not fall back to legacy.
    """
    for attempt in range(2):
        wire.adopt(version)
        try:
            reply = await wire.send(DISCOVER, {"_meta": modern_meta(version, capabilities)})
        except NoMcpAnswer:
            return None
        error = reply.error
        if error is None:
            return _adopt_discovered(wire, reply.result)
        if error.code in (HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY):
            raise error
        if error.code != UNSUPPORTED_PROTOCOL_VERSION:
            return None
        mutual = mutual_version(error)
        if mutual is not None and attempt == 0:
            version = mutual
            continue
        supported = _supported(error)
        if supported is not None and not any(known in HANDSHAKE_PROTOCOL_VERSIONS for known in supported):
            raise error
        break
    return None


def _adopt_discovered(wire: Wire, result: bytes) -> ServerInfo | None:
    """Adopt the version of a discovery result. Returns None if it is unreadable or names no modern version."""
    try:
        found = msgspec.json.decode(result, type=_Discovered)
        capabilities = _decoded(found.capabilities)
    except (msgspec.DecodeError, RecursionError):
        return None
    mutual = [known for known in MODERN_PROTOCOL_VERSIONS if known in found.supported_versions]
    if not mutual:
        return None
    try:
        server = msgspec.json.decode(found.meta.get(SERVER_INFO_KEY, b"{}"), type=_Implementation)
    except msgspec.DecodeError:
        server = _Implementation()
    wire.adopt(mutual[-1])
    return ServerInfo(
        era="modern",
        protocol_version=mutual[-1],
        capabilities=capabilities,
        name=server.name[:MAX_NAME],
        version=server.version[:MAX_NAME],
        instructions=_cut(found.instructions),
        hint=hint_of(found.ttl_ms, found.cache_scope),
    )


async def initialize(wire: Wire, capabilities: Mapping[str, Any]) -> ServerInfo:
    """Run the legacy handshake, including `notifications/initialized`."""
    return await accept(wire, await greet(wire, capabilities))


async def greet(wire: Wire, capabilities: Mapping[str, Any]) -> Initialized:
    """Send `initialize`. Raises `RpcError` for a refusal and for an unusable response."""
    wire.adopt(LATEST_HANDSHAKE_VERSION)
    reply = await wire.send(
        INITIALIZE,
        {
            "protocolVersion": LATEST_HANDSHAKE_VERSION,
            "capabilities": capabilities,
            "clientInfo": IMPLEMENTATION,
        },
    )
    if reply.error is not None:
        raise reply.error
    try:
        found = msgspec.json.decode(reply.result, type=Initialized)
        _decoded(found.capabilities)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RpcError.of_gateway(UPSTREAM_FAILED, f"the answer to initialize is malformed: {error}") from None
    if found.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise RpcError.of_gateway(
            UPSTREAM_FAILED,
            f"the server answered initialize with protocol version {found.protocol_version[:40]!r}, "
            f"which the gateway does not speak (it speaks {', '.join(HANDSHAKE_PROTOCOL_VERSIONS)})",
        )
    return found


async def accept(wire: Wire, found: Initialized) -> ServerInfo:
    """Adopt the version from `initialize`, and complete the handshake."""
    wire.adopt(found.protocol_version)
    await wire.notify("notifications/initialized")
    return ServerInfo(
        era="legacy",
        protocol_version=found.protocol_version,
        capabilities=_decoded(found.capabilities),
        name=found.server_info.name[:MAX_NAME],
        version=found.server_info.version[:MAX_NAME],
        instructions=_cut(found.instructions),
    )


def _decoded(capabilities: Raw) -> dict[str, Any]:
    """The capabilities. Raises `msgspec.DecodeError` if they are no object, `RpcError` if they are too large: each
    connection keeps them, and decoded they may take thirty times their size."""
    if len(capabilities) > MAX_CAPABILITIES:
        raise RpcError.of_gateway(
            UPSTREAM_FAILED, f"the server's capabilities are larger than {MAX_CAPABILITIES} bytes"
        )
    return msgspec.json.decode(capabilities, type=dict[str, Any])


def _cut(instructions: str | None) -> str | None:
    """One character more than agents get, so that they see that something is missing."""
    return None if instructions is None else instructions[: MAX_INSTRUCTIONS + 1]


def _supported(error: BaseException | None) -> list[str] | None:
    """The versions that an `UnsupportedProtocolVersionError` names; None for another error or without versions."""
    if not isinstance(error, RpcError) or error.code != UNSUPPORTED_PROTOCOL_VERSION:
        return None
    named = error.data.get("supported") if isinstance(error.data, dict) else None
    return [str(version) for version in named] if isinstance(named, list) else None


def mutual_version(error: BaseException | None) -> str | None:
    """The newest modern version that both sides support, if the error names one."""
    mutual = [known for known in MODERN_PROTOCOL_VERSIONS if known in (_supported(error) or ())]
    return mutual[-1] if mutual else None
