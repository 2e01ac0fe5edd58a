"""Fetches the documents of one issuer, bounded in size and time.

The issuer's own origin, and that of a configured `jwks_uri`, may be at any address: the operator chose them. Metadata
may name other origins, but only with https and at public addresses, so that it cannot lead the gateway into its
network. The check applies to the very address that is connected to, which prevents DNS rebinding. A proxy connects in
the gateway's place, so names are resolved here too; names that only the proxy can resolve are left to it. Redirects
are not followed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any, Final
from urllib.request import getproxies_environment, proxy_bypass

from aiohttp import (
    AddrInfoType,
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    hdrs,
)
from yarl import URL

from gateway_core import TrustedAuthorities, is_loopback

TIMEOUT: Final = 5.0
"""Seconds for one document."""
MAX_DOCUMENT: Final = 128 * 1024
"""Maximum bytes of one document."""
MAX_URL: Final = 2048
_NAT64: Final = ip_network("64:ff9b::/96")


class FetchError(Exception):
    """A document cannot be had. The text tells the operator why."""


class _InsideError(OSError):
    """A connection to this address is not allowed."""


class Fetcher:
    """An HTTP client for the documents of one issuer."""

    def __init__(self, named: Collection[URL], ca: str | Path | None) -> None:
        """`named`: the URLs that the operator configured. `ca`: PEM file with the authorities to trust.

        Raises `OSError` if `ca` cannot be used.
        """
        self._named = {url.origin() for url in named}
        self._trust = TrustedAuthorities(ca)
        self._sessions: dict[bool, ClientSession] = {}
        """By whether they connect only to public addresses; each is made on first use."""

    @property
    def warning(self) -> str:
        """Why the authorities that were read before stay in use; empty if their file has not changed or is usable."""
        problem = self._trust.problem
        return problem and f"changed authorities (ca) are not used: {problem}"

    def address(self, text: str) -> URL:
        """Parse a URL from a document. Raises `FetchError` if it is not allowed."""
        try:
            url = URL(text) if len(text) <= MAX_URL and text.isascii() and text.isprintable() else URL()
            origin = url.origin()  # fails for a URL without scheme or host
            host = url.host  # decodes it, which fails for invalid names
        except ValueError:
            raise FetchError("it names an address that is not a URL") from None
        if url.user is not None or url.fragment or not host:
            raise FetchError("it names a URL with a user or a fragment")
        if url.scheme != "https" and origin not in self._named:
            raise FetchError(f"it names {origin}, which is not https")
        return url

    async def get(self, url: URL) -> bytes | None:
        """Get a document; None for HTTP 4xx. Raises `FetchError`."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._get(url)
        except TimeoutError:
            raise FetchError(f"no complete answer from {url.origin()} within {TIMEOUT:g} s") from None
        except (ClientError, OSError, ValueError) as error:  # ValueError: a proxy that cannot be used
            raise FetchError(f"{url.origin()} {_explained(error)}") from None

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()

    async def _get(self, url: URL) -> bytes | None:
        strange = url.origin() not in self._named
        proxy = _proxy_for(url)
        if strange and proxy is not None:
            await _check_name(url)
        context = await self._trust.context()
        session = self._session(guarded=strange and proxy is None)
        async with session.get(url, allow_redirects=False, ssl=context, proxy=proxy) as response:
            if 400 <= response.status <= 499:
                return None
            if response.status != 200:
                redirects = "; redirects are not followed" if 300 <= response.status <= 399 else ""
                raise FetchError(f"{url.origin()} answers HTTP {response.status}{redirects}")
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MAX_DOCUMENT:
                    raise FetchError(f"{url.origin()} sends more than {MAX_DOCUMENT} bytes")
            return bytes(body)

    def _session(self, *, guarded: bool) -> ClientSession:
        if guarded not in self._sessions:
            options: dict[str, Any] = {"socket_factory": _public_socket} if guarded else {}
            self._sessions[guarded] = ClientSession(
                connector=TCPConnector(force_close=True, use_dns_cache=False, **options),
                cookie_jar=DummyCookieJar(),
                headers={hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"},
                timeout=ClientTimeout(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._sessions[guarded]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, also if it is embedded in an IPv6 address."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        embedded = IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        ip = embedded or ip
    return ip.is_global and not ip.is_multicast


def _public_socket(address: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, where = address
    if not is_public(str(where[0])):
        raise _InsideError
    return socket.socket(family, kind, protocol)


async def _check_name(url: URL) -> None:
    """Raise `_InsideError` if the host resolves to an address that is not public."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(url.raw_host, url.port, type=socket.SOCK_STREAM)
    except OSError:
        return
    if not all(is_public(str(where[0])) for *_, where in found):
        raise _InsideError


def _proxy_for(url: URL) -> str | None:
    """The proxy that the environment names for a URL (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`)."""
    host = url.host or ""
    if is_loopback(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    return getproxies_environment().get(url.scheme)


def _explained(error: Exception) -> str:
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    if isinstance(cause, _InsideError):
        return "is not at a public address; configure jwks_uri if that is intended"
    if isinstance(error, ClientConnectorCertificateError):
        return f"has a certificate that is not trusted ({_certificate_problem(error)}); see ca"
    return f"cannot be reached ({type(error).__name__})"


def _certificate_problem(error: ClientConnectorCertificateError) -> str:
    reason = error.certificate_error
    return reason.verify_message if isinstance(reason, ssl.SSLCertVerificationError) else type(reason).__name__
