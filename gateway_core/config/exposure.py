"""Warnings about settings that are valid but expose the gateway to others, or keep agents out."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator

from gateway_core.config.models import ProxyConfig
from gateway_core.config.server_tls import shown_certificate
from gateway_core.config.tls import TlsFileError, TlsFiles
from gateway_core.http1.hosts import is_loopback


def exposure(proxy: ProxyConfig) -> list[str]:
    """What `check`, `start` and the log warn about."""
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
    found += _readable_keys(proxy)
    if proxy.tls is not None:
        try:
            warning = shown_certificate(proxy.tls).warning(time.time())
        except TlsFileError as problem:  # it was replaced since the configuration was read
            warning = str(problem)
        if warning:
            found.append(f"mcp.proxy.tls.cert: {warning}")
    return found


def _readable_keys(proxy: ProxyConfig) -> Iterator[str]:
    tables: list[tuple[str, TlsFiles | None]] = [("mcp.proxy.tls", proxy.tls)]
    tables += [(f"upstream {one.name}: tls", one.tls) for one in proxy.upstreams]
    for table, tls in tables:
        if tls is not None and (exposed := tls.exposed_key) is not None:
            key, path = exposed
            yield f"{table}.{key}: every user of this machine can read the private key; run: chmod o-rwx {shlex.quote(path)}"
