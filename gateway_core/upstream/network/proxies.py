"""Chooses the HTTP proxy for a URL, from the configuration or the environment.

`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are read in capitals and small letters. `NO_PROXY` holds host names (with
all names below them), addresses, networks in CIDR notation, each with or without a port, or `*`. The proxies of the
environment are not used for loopback addresses, which no proxy could reach.
"""

from __future__ import annotations

import ipaddress
import os
from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from yarl import URL

from gateway_core.http1.client.dial import HttpProxy, ProxyFailed
from gateway_core.http1.hosts import leads_to_loopback

NONE: Final = "none"
"""The value of `proxy` for an upstream that must be reached directly."""
_DEFAULT_PORT: Final = 80


class Proxies:
    """The proxies of one upstream."""

    def __init__(self, configured: str | None, environment: Mapping[str, str] | None = None) -> None:
        """`configured`: the key `proxy` of the upstream; without it, `environment` decides (`os.environ`)."""
        self._configured = _parsed(configured, "proxy") if configured not in (None, NONE) else None
        self._by_scheme: dict[str, HttpProxy | ProxyFailed] = {}
        self._exempt: list[str] = []
        if configured is None:
            self._read(os.environ if environment is None else environment)

    def _read(self, environment: Mapping[str, str]) -> None:
        for scheme in ("http", "https"):
            name = f"{scheme}_proxy"
            # A CGI server sets HTTP_PROXY from the header `Proxy` of a request.
            value = environment.get(name) or ("" if "REQUEST_METHOD" in environment else environment.get(name.upper()))
            if value and value.strip():
                self._by_scheme[scheme] = _parsed(value.strip(), name.upper())
        exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
        self._exempt = exempt.lower().replace(",", " ").split()

    def of(self, url: URL) -> HttpProxy | None:
        """The proxy for requests to `url`; None to connect directly. Raises `ProxyFailed` if it cannot be used."""
        found: HttpProxy | ProxyFailed | None = self._configured
        if found is None:
            found = self._by_scheme.get(url.scheme)
            host = (url.raw_host or "").lower().rstrip(".")
            if found is None or leads_to_loopback(host) or any(_exempts(it, host, url.port) for it in self._exempt):
                return None
        if isinstance(found, ProxyFailed):
            raise found
        return found


def _parsed(value: str, name: str) -> HttpProxy | ProxyFailed:
    """The proxy in `value`, a URL or `host:port`; `name` says where it stands. A failure does not repeat the value."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        return ProxyFailed(f"{name} is not the URL of a proxy", lasting=True)
    if parts.scheme != "http" or not parts.hostname:
        kind = f"is of the kind {parts.scheme}, which is" if parts.hostname and parts.scheme.isalnum() else "is"
        return ProxyFailed(f"{name} {kind} not supported; use http://HOST:PORT", lasting=True)
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    return HttpProxy(parts.hostname, port, authorization)


def _exempts(entry: str, host: str, port: int | None) -> bool:
    """Whether an entry of `NO_PROXY` covers a host in small letters."""
    if entry == "*":
        return True
    network = _network(entry)
    if network is None:
        address, _, wanted = entry[1:].partition("]") if entry.startswith("[") else entry.rpartition(":")
        wanted = wanted.removeprefix(":")
        if wanted.isdecimal():
            if wanted != str(port):
                return False
            entry = address
        elif entry.startswith("["):
            entry = address
        network = _network(entry)
    if network is not None:
        try:
            return ipaddress.ip_address(host) in network
        except ValueError:
            return False
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None
