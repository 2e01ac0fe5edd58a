"""Settings that expose the gateway to others, or keep agents out: what is refused, and what is warned about."""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from gateway_core.config.models import ProxyConfig
from gateway_core.config.server_tls import shown_certificate
from gateway_core.config.tls import TlsFileError, TlsFiles
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


def is_local(proxy: ProxyConfig) -> bool:
    """Whether nothing but programs on this machine can reach the gateway, as far as the file says."""
    public = urlsplit(proxy.public_url or "").hostname
    no_proxies = not proxy.trusted_proxies.networks
    return is_loopback(proxy.host) and no_proxies and (public is None or is_loopback(public))


def passes_credentials_on(proxy: ProxyConfig, credentials: Collection[str]) -> str | None:
    """Why the gateway must not start: an upstream would get what proves to the gateway who an agent is.

    `credentials`: the headers, in lower case, that enabled plugins read. None if no upstream gets any.
    """
    for upstream in proxy.upstreams:
        for name, source in upstream.forward_sources.items():
            if source.kind == "header" and source.name in credentials:
                return (
                    f'upstream "{upstream.name}": forward.{name} names the header {source.name}, which proves to the '
                    "gateway who an agent is, and which the upstream could use in its place; let agents send the value "
                    "for the upstream in another header"
                )
    return None


def forwarded_headers(proxy: ProxyConfig) -> frozenset[str]:
    """The headers of requests, in lower case, whose values `forward` passes to upstreams."""
    sources = (source for upstream in proxy.upstreams for source in upstream.forward_sources.values())
    return frozenset(source.name for source in sources if source.kind == "header")


def exposure(proxy: ProxyConfig, *, authenticates: bool) -> list[str]:
    """What `check`, `start` and the log warn about."""
    found: list[str] = []
    if proxy.anonymous and not (is_loopback(proxy.host) or authenticates or _proxies_authenticate(proxy)):
        found.append(
            f'mcp.proxy.host is "{proxy.host}" and anonymous is true: '
            "everybody who reaches the port may call everything"
        )
    if not is_loopback(proxy.control.host):
        found.append(
            f'mcp.proxy.control.host is "{proxy.control.host}": its tokens cross the network unencrypted; '
            "listen on 127.0.0.1"
        )
    users = [one.name for one in proxy.upstreams if one.of_users]
    if users and not (authenticates or _proxies_authenticate(proxy)):
        found.append(
            f"nothing authenticates agents, so that no user can log in at upstream {' and '.join(users)} "
            '(identity = "user"): enable auth_apikey, auth_jwt or auth_mtls'
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
            advice = f"run: chmod o-rwx {shlex.quote(path)}"
            yield f"{table}.{key}: every user of this machine can read the private key; {advice}"


def _proxies_authenticate(proxy: ProxyConfig) -> bool:
    return bool(proxy.trusted_proxies.networks and proxy.trusted_proxies.identity_header)
