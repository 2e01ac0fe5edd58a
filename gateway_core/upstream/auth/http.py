"""The HTTP client of `documents`, which imports this module late: aiohttp loads slowly."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from aiohttp import (
    AddrInfoType,
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientHttpProxyError,
    ClientProxyConnectionError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from yarl import URL

from gateway_core.http1.client import field_names
from gateway_core.http1.client.dial import ProxyFailed
from gateway_core.mcp.names import USER_AGENT
from gateway_core.upstream.auth.reach import Forbidden
from gateway_core.upstream.network.host import KEEPALIVE
from gateway_core.upstream.network.trust import why_untrusted

__all__ = ["NO_LIMIT", "ClientError", "explained", "session"]

NO_LIMIT: Final = ClientTimeout()
"""In place of the limits of aiohttp; the caller has one for all of a request."""


def session(check: Callable[[str], None] | None) -> ClientSession:
    """A session for requests. `check` gets each IP address before it is connected to, and raises `Forbidden`."""
    options: dict[str, Any] = {"keepalive_timeout": KEEPALIVE}
    if check is not None:

        def checked(address: AddrInfoType) -> socket.socket:
            family, kind, protocol, _, where = address
            check(str(where[0]))
            return socket.socket(family, kind, protocol)

        options = {"socket_factory": checked, "force_close": True, "use_dns_cache": False}
    return ClientSession(
        connector=TCPConnector(**options),
        cookie_jar=DummyCookieJar(),
        headers={field_names.USER_AGENT: USER_AGENT, field_names.ACCEPT_ENCODING: "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def explained(error: Exception, url: URL) -> str:
    """Why a host could not be asked, without secrets."""
    cause = error.os_error if isinstance(error, ClientConnectorError) else error
    match error:
        case _ if isinstance(cause, Forbidden):
            return Forbidden.TEXT
        case ProxyFailed():
            return str(error)
        case ClientHttpProxyError():
            return f"the proxy refused with HTTP {error.status}"
        case ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as reason):
            return f"its certificate is not trusted: {why_untrusted(reason, url.host or '')}"
        case _:
            return f"not reachable ({type(error).__name__})"
