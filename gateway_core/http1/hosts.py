"""Names of this machine, and the check of the Host and Origin headers of an HTTP request (DNS rebinding).

A web page can make a browser send requests to a local port under the page's own host name. Such requests carry that
name in Host and the page's origin in Origin. Therefore both must name this machine or a host that the operator allowed
(basic/transports/streamable-http, Security & Endpoint).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multidict import MultiMapping

_AUTHORITY: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"http(s?)://(.+)", re.IGNORECASE)


def is_loopback(host: str) -> bool:
    """Whether `host` names this machine for every resolver: `localhost` or a loopback address."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return address == ipaddress.IPv6Address("::1")


def leads_to_loopback(host: str) -> bool:
    """Whether a URL with this host stays on this machine: `is_loopback`, or a name under `localhost` (RFC 6761).

    Not for the Host header: a browser may have resolved such a name through DNS.
    """
    host = host.rstrip(".").lower()
    return host.endswith(".localhost") or is_loopback(host)


def connectable(host: str) -> str:
    """The host to connect to: loopback for an address that means "all interfaces"."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)


def base_url(host: str, port: int, *, secure: bool = False) -> str:
    """The URL of a listener without a trailing slash; an IPv6 address gets brackets. `secure`: whether it uses TLS."""
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class HostGuard:
    """Checks Host and Origin against loopback names, the configured host, and the operator's allow lists."""

    def __init__(
        self,
        host: str,
        allowed_hosts: Iterable[str] = (),
        allowed_origins: Iterable[str] | None = None,
        *,
        secure: bool = False,
    ) -> None:
        """An allowed host without a port matches every port; allowed origins are compared literally.

        `allowed_origins`: None where the configuration cannot allow further ones, as for the control plane.
        `secure`: whether the listener uses TLS. Then only `https://` origins of allowed hosts are known, because an
        attacker on the network can write the pages of the others.
        """
        self._secure = secure
        self._hosts = frozenset(_bare(name) for name in (host, *allowed_hosts))
        self._origins = frozenset(allowed_origins or ())
        self._advice = (
            "pages of this address and of allowed_hosts may use it"
            if allowed_origins is None
            else "the key allowed_origins of the configuration adds one"
        )
        self._host_status = lru_cache(maxsize=256)(self._judge_host)
        self._origin_allowed = lru_cache(maxsize=256)(self._judge_origin)

    def check(self, headers: MultiMapping[str], *, any_host: bool = False) -> tuple[int, str] | None:
        """Check a request's headers, including that there is exactly one Host; arguments and result of `judge`."""
        hosts = headers.getall("Host", [])
        if len(hosts) != 1:
            return 400, "exactly one Host header is required"
        origin = ", ".join(headers.getall("Origin")) if "Origin" in headers else None
        return self.judge(hosts[0], origin, any_host=any_host)

    def judge(self, host: str, origin: str | None, *, any_host: bool = False) -> tuple[int, str] | None:
        """None, or the HTTP status and the reason of a rejection: 400 for a malformed Host, else 403.

        `origin`: None without the header; several values are joined by commas and then rejected. `any_host`: every
        well-formed Host is allowed, because the response says nothing that a web page must not learn.
        """
        status = self._host_status(host)
        if status == 400:
            return 400, "the Host header is malformed"
        if status == 403 and not any_host:
            return 403, "this Host is not allowed here; the key allowed_hosts of the configuration adds one"
        if origin is not None and not self._origin_allowed(origin):
            return 403, f"this Origin is not allowed here; {self._advice}"
        return None

    def _judge_host(self, value: str) -> int:
        match = _AUTHORITY.fullmatch(value)
        if match is None or (match[3] is not None and int(match[3]) > 65535):
            return 400
        return 200 if self._known(match[1] or match[2], value) else 403

    def _judge_origin(self, value: str) -> bool:
        if value in self._origins:
            return True
        origin = _ORIGIN.fullmatch(value)
        match = _AUTHORITY.fullmatch(origin[2]) if origin else None
        if origin is None or match is None:
            return False
        host = match[1] or match[2]
        return is_loopback(host) or (self._known(host, match[0]) and not (self._secure and not origin[1]))

    def _known(self, host: str, authority: str) -> bool:
        return is_loopback(host) or host.lower() in self._hosts or authority.lower() in self._hosts


def _bare(name: str) -> str:
    """An allowed host as `_known` compares it: lower case; an IPv6 address loses its brackets if it has no port."""
    name = name.strip().lower()
    return name[1:-1] if name.startswith("[") and name.endswith("]") else name
