"""Negotiates the era of a server.

A **modern** server answers `server/discover`; a **legacy** one gets the `initialize` handshake. `negotiate` probes over
any `Wire` (a transport that can carry one request), by the specification's rules (basic/versioning, transports/stdio
and transports/streamable-http, Backward Compatibility). It never probes with a method that could have side effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from gateway_core.api import Era
from gateway_core.errors import RpcError
from gateway_core.mcp.names import (
    LATEST_MODERN_VERSION,
)
from gateway_core.upstream.base import NoMcpAnswer, ServerInfo
from gateway_core.upstream.transports.handshakes import (
    Initialized,
    Wire,
    accept,
    greet,
    initialize,
    mutual_version,
    probe,
)

PROBE_PATIENCE: Final = 2.0
"""Seconds without an answer to `server/discover` until `initialize` is sent too."""
BOTH_PATIENCE: Final = 0.5
"""Seconds to wait for `server/discover` after the answer to `initialize`: if a server supports both eras, the modern
one is used."""
REPROBE_TIMEOUT: Final = 5.0
"""Seconds for `server/discover` at a server that refused `initialize`."""


async def negotiate(
    wire: Wire,
    known_era: Era | None,
    *,
    capabilities: Mapping[str, Any],
    probe_timeout: float = PROBE_PATIENCE,
    modern_possible: bool = True,
) -> ServerInfo:
    """Negotiate the era and version, and leave `wire` ready to use them.

    `known_era` is the era of the last connection: a server known to be legacy gets `initialize` at once, and is probed
    only if that fails. `capabilities` are declared to the server. A server that is silent for `probe_timeout` seconds
    may be legacy or still starting: it gets `initialize` too, and either answer counts. The caller bounds the total
    time. `modern_possible=False` is for transports that only legacy servers use.

    Raises `RpcError` if the server refuses, or shares no version with the gateway. Raises `DeliveryError` if the wire
    fails: an outage says nothing about the era.
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
    """Negotiate by the first usable answer to `server/discover` or `initialize`, both already sent."""
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
        # A modern server may have started after the probe; its refusal then names modern versions.
        version = mutual_version(error)
        found = None if version is None else await _within(REPROBE_TIMEOUT, probe(wire, capabilities, version))
        if found is None:
            raise
        return found


async def _within(seconds: float, asking: Coroutine[Any, Any, ServerInfo | None]) -> ServerInfo | None:
    """The result of a probe; None (legacy) after `seconds` without an answer."""
    try:
        async with asyncio.timeout(seconds):
            return await asking
    except TimeoutError:
        return None
