"""Settings that expose the gateway to other machines: what is refused, and what is warned about."""

from __future__ import annotations

from gateway_core.config.models import ProxyConfig
from gateway_core.http1.hosts import is_loopback


def unprotected(proxy: ProxyConfig, *, authenticates: bool) -> str | None:
    """Why the gateway must not listen: other machines could use it without credentials, and the file does not say so.

    `authenticates`: whether an enabled plugin authenticates agents. None if it may listen.
    """
    if is_loopback(proxy.host) or authenticates or proxy.anonymous or _proxies_authenticate(proxy):
        return None
    return (
        f'mcp.proxy.host is "{proxy.host}": other machines may be able to connect, and nothing authenticates agents; '
        "enable a plugin that does (auth_apikey, auth_jwt, auth_mtls), or let a proxy name them "
        "(trusted_proxies.identity_header), or write anonymous = true below [mcp.proxy] if everybody who reaches the "
        "port may call everything"
    )


def exposure(proxy: ProxyConfig, *, authenticates: bool) -> list[str]:
    """What `check`, `start` and the log warn about; empty while only this machine can connect."""
    found: list[str] = []
    if not (is_loopback(proxy.host) or authenticates or _proxies_authenticate(proxy)):
        found.append(
            f'mcp.proxy.host is "{proxy.host}" and anonymous is true: '
            "everybody who reaches the port may call everything"
        )
    if not is_loopback(proxy.control.host):
        found.append(
            f'mcp.proxy.control.host is "{proxy.control.host}": the admin token crosses the network unencrypted; '
            "listen on 127.0.0.1"
        )
    return found


def _proxies_authenticate(proxy: ProxyConfig) -> bool:
    return bool(proxy.trusted_proxies.networks and proxy.trusted_proxies.identity_header)
