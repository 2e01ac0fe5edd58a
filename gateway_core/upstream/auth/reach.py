"""Which network addresses a stranger's word may lead to (Security Best Practices, Server-Side Request Forgery).

An upstream names the addresses of its metadata, and that metadata names more. Public ones may be asked. Loopback,
private and link-local ones only if the upstream itself is at one of the same kind: a server in the company's network
may have its authorization server there, and one on the internet must not use the gateway to look into it.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_NAT64: Final = ip_network("64:ff9b::/96")


def kind_of(address: str) -> str:
    """The kind of an IP address: `public`, `private`, `loopback`, `link-local`, or `other`, which nothing may ask."""
    ip = _inner(ip_address(address.partition("%")[0]))
    if ip.is_loopback:
        return "loopback"
    if ip.is_link_local:
        return "link-local"
    if ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return "other"
    return "public" if ip.is_global else "private"


def allowed(address: str, upstream: Iterable[str]) -> bool:
    """Whether `address` may be asked on the word of an upstream that was itself reached at the addresses given."""
    kind = kind_of(address)
    return kind == "public" or (kind != "other" and {kind_of(own) for own in upstream} == {kind})


def _inner(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
