"""One active health check of a server: by the plugin that checks health, or by the gateway's own probe."""

from __future__ import annotations

import asyncio

import msgspec

from gateway_core.errors import DeliveryError, LoginNeeded
from gateway_core.hooks import Chain
from gateway_core.upstream.base import Connection
from gateway_core.upstream.concealing import Concealer
from gateway_core.upstream.liveness import PING_TIMEOUT
from gateway_core.upstream.upstream import Upstream


class Problem(msgspec.Struct, frozen=True):
    """The failure that one check found."""

    text: str
    silent: bool = False
    """Whether the server gave no answer at all."""
    by_plugin: bool = False
    final: bool = False
    """Whether further checks would find the same."""


async def check(
    upstream: Upstream, connection: Connection, chain: Chain, concealer: Concealer, *, confirm: bool
) -> Problem | None:
    """Run one active check. Returns the problem; None if it is healthy. `confirm`: see `Liveness.check`."""
    await upstream.connections.look_at_files()
    silence = f"no answer within {PING_TIMEOUT:g} s"
    if chain.has_health_check:
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                health = await chain.check_health(upstream.view)
        except TimeoutError:
            return Problem(f"a plugin gave {silence}", by_plugin=True)
        if health is not None:
            return None if health.healthy else Problem(health.reason or "a plugin says so", by_plugin=True)
    try:
        await upstream.liveness.check(connection, confirm=confirm)
    except TimeoutError:
        return Problem(silence, silent=True)
    except DeliveryError as error:
        return Problem(concealer.hide(str(error)), final=isinstance(error, LoginNeeded))
    upstream.liveness.checked(upstream.clock.now())
    return None
