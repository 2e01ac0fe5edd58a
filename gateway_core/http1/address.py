"""Network addresses in one canonical form."""

from __future__ import annotations

import ipaddress


def canonical_address(address: str) -> str:
    """The form of an address that sessions and limits compare; `::1` becomes `127.0.0.1`."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed == ipaddress.IPv6Address("::1"):
            return "127.0.0.1"
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
    return str(parsed)
