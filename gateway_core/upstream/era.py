"""Which era a server speaks, and the `_meta` that one hop to it needs.

A **modern** server answers `server/discover`; a **legacy** one gets the `initialize` handshake. `negotiate` finds
out over any `Wire` (a transport that can carry one request), by the specification's own probing rules
(basic/versioning, transports/stdio and transports/streamable-http, Backward Compatibility). It never probes with
a method that could have an effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import (
    HEADER_MISMATCH,
    MISSING_CLIENT_CAPABILITY,
    UNSUPPORTED_PROTOCOL_VERSION,
    UPSTREAM_FAILED,
    OutcomeUnknown,
    RpcError,
)
from gateway_core.exchange import Exchange
from gateway_core.protocol import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    DISCOVER,
    HANDSHAKE_PROTOCOL_VERSIONS,
    IDEMPOTENCY_KEY,
    IMPLEMENTATION,
    INITIALIZE,
    LATEST_HANDSHAKE_VERSION,
    LATEST_MODERN_VERSION,
    LOG_LEVEL_KEY,
    MODERN_PROTOCOL_VERSIONS,
    PROTOCOL_VERSION_KEY,
    RESERVED_PREFIX,
    SERVER_INFO_KEY,
)
from gateway_core.types import Era
from gateway_core.upstream.base import Host, ServerInfo
from gateway_core.upstream.capabilities import for_modern
from gateway_core.upstream.hints import hint_of
from gateway_core.upstream.requests import Reply


class NoMcpAnswer(OutcomeUnknown):
    """The peer answered, but not with an MCP message: an HTTP status, a web page, bytes that are no JSON-RPC.

    For a probe that is a verdict (a legacy server), for any other request it is a failure like the others.
    """


class Wire(Protocol):
    """One transport, before anything was negotiated on it."""

    async def send(self, method: str, params: Mapping[str, Any]) -> Reply:
        """One request; `params` are complete, `_meta` included. Raises `DeliveryError`."""

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """One notification. Raises `DeliveryError`."""

    def adopt(self, protocol_version: str) -> None:
        """From now on speak that version: headers, if the transport has any, and what a cancellation looks like."""


class _Implementation(msgspec.Struct):
    name: str = ""
    version: str = ""


class _Initialized(msgspec.Struct, rename="camel"):
    protocol_version: str
    capabilities: dict[str, Any]
    server_info: _Implementation = msgspec.field(default_factory=_Implementation)
    instructions: str | None = None


class _Discovered(msgspec.Struct, rename="camel"):
    supported_versions: list[str]
    capabilities: dict[str, Any]
    instructions: str | None = None
    ttl_ms: Any = None
    cache_scope: Any = None
    meta: dict[str, Raw] = msgspec.field(name="_meta", default_factory=dict)


async def negotiate(
    wire: Wire,
    known_era: Era | None,
    *,
    capabilities: Mapping[str, Any],
    probe_timeout: float = 5.0,
    modern_possible: bool = True,
) -> ServerInfo:
    """Find out what the server speaks, and leave `wire` ready to speak it.

    `known_era` is what it spoke last time: a server known to be legacy is greeted with `initialize` at once, and
    probed only if that fails. `capabilities` are declared to it. `probe_timeout` is how many seconds of silence mean
    "legacy"; the handshake itself is bounded by the caller. `modern_possible=False` for transports that only legacy
    servers have.

    Raises `RpcError` when the server refuses, or shares no version with the gateway; `DeliveryError` as the wire
    does: an outage is never a verdict about the era.
    """
    if not modern_possible:
        return await _initialize(wire, capabilities)
    if known_era == "legacy":
        try:
            return await _initialize(wire, capabilities)
        except (RpcError, NoMcpAnswer) as refusal:
            found = await _probe(wire, probe_timeout, capabilities, _mutual_version(refusal) or LATEST_MODERN_VERSION)
            if found is None:
                raise
            return found
    found = await _probe(wire, probe_timeout, capabilities, LATEST_MODERN_VERSION)
    if found is not None:
        return found
    try:
        return await _initialize(wire, capabilities)
    except RpcError as refusal:
        # A probe that timed out here may still have arrived: the server is modern after all, and says so.
        version = _mutual_version(refusal)
        if version is None:
            raise
        found = await _probe(wire, probe_timeout, capabilities, version)
        if found is None:
            raise
        return found


async def _probe(wire: Wire, timeout: float, capabilities: Mapping[str, Any], version: str) -> ServerInfo | None:
    """Ask `server/discover`, once more at a version that the server names; None means that it is legacy.

    Raises `RpcError` for a modern server that cannot be spoken to: that is not a reason to fall back.
    """
    for attempt in range(2):
        wire.adopt(version)
        try:
            async with asyncio.timeout(timeout):
                reply = await wire.send(DISCOVER, {"_meta": _modern_meta(version, capabilities)})
        except (TimeoutError, NoMcpAnswer):
            return None
        error = reply.error
        if error is None:
            return _adopt_discovered(wire, reply.result)
        if error.code in (HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY):
            raise error
        if error.code != UNSUPPORTED_PROTOCOL_VERSION:
            return None
        mutual = _mutual_version(error)
        if mutual is not None and attempt == 0:
            version = mutual
            continue
        supported = _supported(error)
        if supported is not None and not any(known in HANDSHAKE_PROTOCOL_VERSIONS for known in supported):
            raise error
        break
    return None


def _adopt_discovered(wire: Wire, result: bytes) -> ServerInfo | None:
    """The server's own description. None when it is unreadable, or advertises legacy versions only."""
    try:
        found = msgspec.json.decode(result, type=_Discovered)
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
        capabilities=found.capabilities,
        name=server.name,
        version=server.version,
        instructions=found.instructions,
        hint=hint_of(found.ttl_ms, found.cache_scope),
    )


async def _initialize(wire: Wire, capabilities: Mapping[str, Any]) -> ServerInfo:
    """The legacy handshake, up to and including `notifications/initialized`."""
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
        found = msgspec.json.decode(reply.result, type=_Initialized)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RpcError.of_gateway(UPSTREAM_FAILED, f"the answer to initialize is malformed: {error}") from None
    if found.protocol_version not in HANDSHAKE_PROTOCOL_VERSIONS:
        raise RpcError.of_gateway(
            UPSTREAM_FAILED,
            f"the server answered initialize with protocol version {found.protocol_version[:40]!r}, "
            f"which the gateway does not speak (it speaks {', '.join(HANDSHAKE_PROTOCOL_VERSIONS)})",
        )
    wire.adopt(found.protocol_version)
    await wire.notify("notifications/initialized")
    return ServerInfo(
        era="legacy",
        protocol_version=found.protocol_version,
        capabilities=found.capabilities,
        name=found.server_info.name,
        version=found.server_info.version,
        instructions=found.instructions,
    )


def _supported(error: Exception) -> list[str] | None:
    """The versions that an `UnsupportedProtocolVersionError` names; None when it is another error, or names none."""
    if not isinstance(error, RpcError) or error.code != UNSUPPORTED_PROTOCOL_VERSION:
        return None
    named = error.data.get("supported") if isinstance(error.data, dict) else None
    return [str(version) for version in named] if isinstance(named, list) else None


def _mutual_version(error: Exception) -> str | None:
    """The newest modern version that both sides speak, if the error names one."""
    mutual = [known for known in MODERN_PROTOCOL_VERSIONS if known in (_supported(error) or ())]
    return mutual[-1] if mutual else None


def _modern_meta(version: str, capabilities: Mapping[str, Any] | Raw) -> dict[str, Any]:
    return {
        PROTOCOL_VERSION_KEY: version,
        CLIENT_INFO_KEY: IMPLEMENTATION,
        CLIENT_CAPABILITIES_KEY: capabilities,
    }


def declared(exchange: Exchange | None, host: Host) -> Mapping[str, Any] | Raw:
    """What one request to a modern server declares: the capabilities of the agent behind it, if there is one."""
    return host.capabilities if exchange is None else for_modern(exchange.agent)


def template(
    method: str, params: Mapping[str, Any], info: ServerInfo, capabilities: Mapping[str, Any] | Raw
) -> bytes | None:
    """A request as `Prepared.body` has it; None where something in it looks like what is to be filled in."""
    number = Raw(b"%d")
    complete = with_meta(params, info, capabilities, {IDEMPOTENCY_KEY: Raw(b'"%b"')}, number)
    before, mark, after = jsonrpc.request(number, method, complete).rpartition(b',"_meta":{')
    body = b"%b%%b%b%%b%b" % (before, mark, after)
    return body if mark and body.count(b"%") == 5 else None


def passed_on(meta: bytes) -> bytes:
    """The members of an agent's `_meta` sent beside those of `template`, as JSON, each with a comma behind it."""
    if meta[:1] != b"{":
        return b""
    own = {key: value for key, value in jsonrpc.members(meta).items() if _passes(key) and key != IDEMPOTENCY_KEY}
    return jsonrpc.encode(own)[1:-1] + b"," if own else b""


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
) -> Mapping[str, Any]:
    """`params`, which have no `_meta`, with the one that a request to the server `info` describes needs, if any.

    `log_level`: the least severe log messages that the agent behind it wants; empty for none.
    The agent's own keys pass (`traceparent` and vendors' keys among them), except those that belong to one hop
    (basic/index, `_meta`): `progressToken` and everything reserved, which are the gateway's own here.
    """
    meta: dict[str, Any] = {}
    if agent_meta:
        meta = {key: value for key, value in agent_meta.items() if _passes(key)}
    if progress_token is not None:
        meta["progressToken"] = progress_token
    if info.era == "modern":
        meta |= _modern_meta(info.protocol_version, capabilities)
        if log_level:
            meta[LOG_LEVEL_KEY] = log_level
    return {**params, "_meta": meta} if meta else params
