"""Opens a connection to a host: name resolution, TCP, the tunnel of a proxy (RFC 9110, section 9.3.6), TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from aiohappyeyeballs import AddrInfoType, start_connection

_P = TypeVar("_P", bound=asyncio.Protocol)

EYEBALLS: Final = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305)."""
MAX_TUNNEL_HEAD: Final = 16 * 1024
"""Maximum bytes of a proxy's response to CONNECT."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


@dataclass(frozen=True, slots=True)
class HttpProxy:
    """An HTTP proxy."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of `Proxy-Authorization`; empty for none."""

    def __str__(self) -> str:
        return _authority(self.host, self.port)


class ProxyFailed(OSError):
    """A proxy cannot be reached, refuses, or is misconfigured. The text is complete and holds no secrets."""

    def __init__(self, text: str, *, lasting: bool = False) -> None:
        """`lasting`: only a person can fix it."""
        super().__init__(text)
        self.lasting = lasting


async def dial(
    factory: Callable[[], _P], host: str, port: int, context: ssl.SSLContext | None, proxy: HttpProxy | None = None
) -> _P:
    """Connect; `context`: for TLS. With a `proxy`, connect to that, and through it if there is a `context`.

    The caller sets a timeout. Raises `OSError` (`ssl.SSLError`, `socket.gaierror`, `ProxyFailed`).
    """
    loop = asyncio.get_running_loop()
    if proxy is None:
        sock = await _connect(host, port)
    else:
        try:
            sock = await _connect(proxy.host, proxy.port)
        except OSError as error:
            raise ProxyFailed(f"the proxy {proxy} {_unreachable(error)}") from None
    try:
        if proxy is not None and context is not None:
            await _open_tunnel(sock, _authority(host, port), proxy)
        _, protocol = await loop.create_connection(
            factory, sock=sock, ssl=context, server_hostname=host if context is not None else None
        )
    except BaseException:
        sock.close()
        raise
    return protocol


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = _literal(host, port) or await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await start_connection(addresses, happy_eyeballs_delay=EYEBALLS, loop=loop, socket_factory=_socket)


async def _open_tunnel(sock: socket.socket, authority: str, proxy: HttpProxy) -> None:
    """Have the proxy connect `sock` to the host. Raises `ProxyFailed`."""
    loop = asyncio.get_running_loop()
    credentials = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    received = b""
    try:
        await loop.sock_sendall(
            sock, f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{credentials}\r\n".encode()
        )
        while b"\r\n\r\n" not in received and len(received) <= MAX_TUNNEL_HEAD:
            piece = await loop.sock_recv(sock, 4096)
            if not piece:
                raise ProxyFailed(f"the proxy {proxy} closed the connection without an answer to CONNECT")
            received += piece
    except ProxyFailed:
        raise
    except OSError as error:
        raise ProxyFailed(f"the proxy {proxy} broke off the connection: {_reason(error)}") from None
    found = _STATUS.match(received)
    status = int(found[1]) if found is not None else 0
    # The client speaks first in a tunnel, so nothing may follow the head.
    if 200 <= status <= 299 and received.endswith(b"\r\n\r\n") and received.count(b"\r\n\r\n") == 1:
        return
    if status < 300:
        raise ProxyFailed(f"the answer of the proxy {proxy} to CONNECT is not that of an HTTP proxy")
    raise refused_by(proxy, status)


def refused_by(proxy: HttpProxy, status: int) -> ProxyFailed:
    """The error for a refusal of a proxy."""
    why = {
        407: "it wants credentials" if not proxy.authorization else "it does not accept the credentials",
        403: "it does not allow this address",
    }.get(status)
    text = f"the proxy {proxy} refused with HTTP {status}" + (f": {why}" if why else "")
    return ProxyFailed(text, lasting=why is not None)


def _unreachable(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "cannot be resolved"
    return f"cannot be reached: {_reason(error)}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
