"""Warnings about settings that are valid but expose the gateway to other machines."""

from __future__ import annotations

from gateway_core.config.models import ProxyConfig
from gateway_core.http1.hosts import is_loopback


def exposure(proxy: ProxyConfig) -> list[str]:
    """What `check`, `start` and the log warn about; empty while only this machine can connect."""
    found: list[str] = []
    if not is_loopback(proxy.host):
        found.append(
            f'mcp.proxy.host is "{proxy.host}": other machines may be able to connect, and the gateway does not '
            "authenticate agents; listen on 127.0.0.1, or let only an authenticating proxy reach the port"
        )
    if not is_loopback(proxy.control.host):
        found.append(
            f'mcp.proxy.control.host is "{proxy.control.host}": the admin token crosses the network unencrypted; '
            "listen on 127.0.0.1"
        )
    return found
