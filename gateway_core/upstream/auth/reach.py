"""Which network addresses untrusted metadata may name (Security Best Practices, Server-Side Request Forgery).

An upstream names the addresses of its metadata, and that metadata names more. Public addresses are allowed. Loopback,
private and link-local ones are allowed only if all addresses of the upstream are of that kind. A server in a
private network may have its authorization server there, but one on the internet must not probe that network.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_NAT64: Final = ip_network("64:ff9b::/96")


class Forbidden(OSError):
    """A connection to this address is not allowed."""

    TEXT: Final = "at an address that this upstream must not lead to"


def kind_of(address: str) -> str:
    """The kind of an IP address: `public`, `private`, `loopback`, `link-local`, or `other`, which is never allowed."""
    ip = _inner(ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return "other"
    return "public" if ip.is_global else "private"


def allowed(address: str, upstream: Iterable[str]) -> bool:
    """Whether metadata may name `address`. `upstream` are the addresses at which the upstream was reached."""
    kind = kind_of(address)
    return kind == "public" or (kind != "other" and {kind_of(own) for own in upstream} == {kind})


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address embedded in an IPv6 address, else the address itself."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
