"""Creates connections by an upstream's configuration, and opens additional ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway_core.api import Era
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import DeliveryError, NotSent, RpcError
from gateway_core.upstream.base import ClientContext, Connection
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.transports.client import HttpClient
from gateway_core.upstream.transports.http import HttpConnection
from gateway_core.upstream.transports.sse import SseConnection
from gateway_core.upstream.transports.stdio import StdioConnection


def connection_to(
    config: UpstreamConfig,
    limits: LimitsConfig,
    context: ClientContext,
    http: HttpClient | None,
    early: EarlyChildren | None,
    *,
    deaths: int = 0,
) -> Connection:
    """A new, unopened connection. All transports but stdio need `http`.

    For stdio: `early` may hold a child; `deaths` is the number of handshakes in a row in which the server exited.
    """
    if config.transport == "stdio":
        child = early.take(config.name) if early is not None else None
        return StdioConnection(config, limits, context, child, deaths)
    assert http is not None
    kind = SseConnection if config.transport == "sse" else HttpConnection
    return kind(config, limits, context, http)


async def open_session(
    connection: Connection, config: UpstreamConfig, era: Era | None, discard: Callable[[Connection], None]
) -> None:
    """Open an additional connection to a running server; `discard` it on failure. Raises `NotSent`."""
    try:
        async with asyncio.timeout(config.start_timeout):
            await connection.open(era)
    except (DeliveryError, RpcError, TimeoutError) as problem:
        discard(connection)
        reason = str(problem) or f"no answer to the handshake within {config.start_timeout:g} s"
        raise NotSent(f"no session: {reason}") from None
    except BaseException:
        discard(connection)
        raise
