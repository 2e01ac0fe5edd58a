"""Which kind of connection an upstream's configuration asks for."""

from __future__ import annotations

from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.upstream.base import Connection, Host
from gateway_core.upstream.client import HttpClient
from gateway_core.upstream.http import HttpConnection
from gateway_core.upstream.sse import SseConnection
from gateway_core.upstream.stdio import StdioConnection


def connection_to(config: UpstreamConfig, limits: LimitsConfig, host: Host, http: HttpClient | None) -> Connection:
    """A new connection, unopened; `http` is needed by all transports but stdio."""
    if config.transport == "stdio":
        return StdioConnection(config, limits, host)
    assert http is not None
    kind = SseConnection if config.transport == "sse" else HttpConnection
    return kind(config, limits, host, http)
