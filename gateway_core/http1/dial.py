"""Opens a connection to a host: name resolution, TCP, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection

_P = TypeVar("_P", bound=asyncio.Protocol)

EYEBALLS: Final = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305)."""


async def dial(factory: Callable[[], _P], host: str, port: int, context: ssl.SSLContext | None) -> _P:
    """Connect; `context`: for TLS. The caller sets a timeout. Raises `OSError` (`ssl.SSLError`, `socket.gaierror`)."""
    loop = asyncio.get_running_loop()
    addresses = _literal(host, port) or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await start_connection(addresses, happy_eyeballs_delay=EYEBALLS, loop=loop, socket_factory=_socket)
    try:
        _, protocol = await loop.create_connection(
            factory, sock=sock, ssl=context, server_hostname=host if context is not None else None
        )
    except BaseException:
        sock.close()
        raise
    return protocol


def _literal(host: str, port: int) -> list[AddrInfoType]:
    """The address info of an IP literal, which needs no resolver thread; empty for a name."""
    with contextlib.suppress(ValueError):
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        place = (host, port, 0, 0) if family == socket.AF_INET6 else (host, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]
    return []


def _socket(address: AddrInfoType) -> socket.socket:
    """A socket without Nagle's algorithm, whose keep-alive detects a dead peer within about a minute."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        option = getattr(socket, name, None)  # not on every system
        if option is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, seconds)
    return made
