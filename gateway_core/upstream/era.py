"""Which era a server speaks, and the `_meta` that one hop to it needs.

A **modern** server answers `server/discover`; a **legacy** one gets the `initialize` handshake. `negotiate` finds
out over any `Wire` (a transport that can carry one request), by the specification's own probing rules
(basic/versioning, transports/stdio and transports/streamable-http, Backward Compatibility). It never probes with
a method that could have an effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import RpcError
from gateway_core.exchange import Exchange
from gateway_core.protocol import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    IDEMPOTENCY_KEY,
    LATEST_MODERN_VERSION,
    LOG_LEVEL_KEY,
    PROTOCOL_VERSION_KEY,
    RESERVED_PREFIX,
)
from gateway_core.types import Era
from gateway_core.upstream.base import Host, NoMcpAnswer, ServerInfo
from gateway_core.upstream.capabilities import for_modern
from gateway_core.upstream.handshakes import (
    Initialized,
    Wire,
    accept,
    greet,
    initialize,
    modern_meta,
    mutual_version,
    probe,
)
from gateway_core.upstream.requests import Request

PROBE_PATIENCE: Final = 2.0
"""Seconds of silence after `server/discover` until `initialize` is sent as well."""
BOTH_PATIENCE: Final = 0.5
"""Seconds that the answer to `server/discover` may be behind the one to `initialize`: a server that speaks both eras
is spoken to in the later one."""
REPROBE_TIMEOUT: Final = 5.0
"""Seconds for `server/discover` at a server that has refused `initialize`."""


async def negotiate(
    wire: Wire,
    known_era: Era | None,
    *,
    capabilities: Mapping[str, Any],
    probe_timeout: float = PROBE_PATIENCE,
    modern_possible: bool = True,
) -> ServerInfo:
    """Find out what the server speaks, and leave `wire` ready to speak it.

    `known_era` is what it spoke last time: a server known to be legacy is greeted with `initialize` at once, and
    probed only if that fails. `capabilities` are declared to it. After `probe_timeout` seconds of silence the server
    may be legacy, or still starting: it gets `initialize` as well, and an answer to either request counts. The caller
    bounds the whole. `modern_possible=False` for transports that only legacy servers have.

    Raises `RpcError` when the server refuses, or shares no version with the gateway; `DeliveryError` as the wire
    does: an outage is never a verdict about the era.
    """
    if not modern_possible:
        return await initialize(wire, capabilities)
    if known_era == "legacy":
        try:
            return await initialize(wire, capabilities)
        except (RpcError, NoMcpAnswer) as refusal:
            version = mutual_version(refusal) or LATEST_MODERN_VERSION
            found = await _within(REPROBE_TIMEOUT, probe(wire, capabilities, version))
            if found is None:
                raise
            return found
    discovery = asyncio.ensure_future(probe(wire, capabilities, LATEST_MODERN_VERSION))
    asked: list[asyncio.Future[Any]] = [discovery]
    try:
        await asyncio.wait(asked, timeout=probe_timeout)
        if discovery.done() and (found := discovery.result()) is not None:
            return found
        greeting = asyncio.ensure_future(greet(wire, capabilities))
        asked.append(greeting)
        return await _either(wire, capabilities, discovery, greeting)
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _either(
    wire: Wire,
    capabilities: Mapping[str, Any],
    discovery: asyncio.Future[ServerInfo | None],
    greeting: asyncio.Future[Initialized],
) -> ServerInfo:
    """What the first useful answer says, to `server/discover` or to `initialize`, both of which were sent."""
    both: set[asyncio.Future[Any]] = {discovery, greeting}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    refusal = greeting.exception() if greeting.done() else None
    version = mutual_version(refusal)
    if version is None and (refusal is None or isinstance(refusal, RpcError | NoMcpAnswer)):
        await asyncio.wait({discovery}, timeout=BOTH_PATIENCE if refusal is None else REPROBE_TIMEOUT)
    if discovery.done():
        failure = discovery.exception()
        if isinstance(failure, RpcError):
            raise failure
        if failure is None and (found := discovery.result()) is not None:
            return found
    try:
        return await accept(wire, await greeting)
    except RpcError as error:
        # The probe may have come too early for a modern server, which now says that it is one.
        version = mutual_version(error)
        found = None if version is None else await _within(REPROBE_TIMEOUT, probe(wire, capabilities, version))
        if found is None:
            raise
        return found


async def _within(seconds: float, asking: Coroutine[Any, Any, ServerInfo | None]) -> ServerInfo | None:
    """The result of a probe of a server that has answered something; silence means that it is legacy."""
    try:
        async with asyncio.timeout(seconds):
            return await asking
    except TimeoutError:
        return None


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
