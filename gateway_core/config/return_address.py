"""The address to which the browsers of people return after a login: where the file must say it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway_core.config.report import Problem
from gateway_core.http1.hosts import is_loopback


def check(proxy: dict[str, Any], auth: dict[str, Any]) -> Iterator[Problem]:
    """Yield the problem that `auth` of an upstream needs an address which the gateway cannot know.

    `proxy`: the table `[mcp.proxy]`, as TOML values.
    """
    if auth.get("identity") != "user" or "public_url" in proxy:
        return
    host, proxies = proxy.get("host", "127.0.0.1"), proxy.get("trusted_proxies")
    is_behind = isinstance(proxies, dict) and bool(proxies.get("networks"))
    if is_behind or not (isinstance(host, str) and is_loopback(host)):
        where = "behind a proxy" if is_behind else "beyond loopback"
        yield Problem(
            ("mcp", "proxy", "public_url"),
            f'is required {where} for identity = "user": the address to which browsers return after a login, '
            'for example: public_url = "https://gateway.example.com"',
        )
