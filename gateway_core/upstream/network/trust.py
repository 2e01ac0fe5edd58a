"""The TLS context for an upstream, and explanations of TLS failures."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Final

from loguru import logger

from gateway_core.config.tls import RenewedContext, TlsConfig, TlsFileError, context_of
from gateway_core.errors import Permanent

_WRONG_NAME: Final = frozenset({62, 63, 64})
_REASONS: Final = {
    9: "it is not valid yet; compare the clocks of both machines",
    10: "it has expired; the server needs a new one",
    18: "it is self-signed; name its PEM file in tls.ca if you trust it",
    19: "its chain ends in an authority that is not trusted; name that authority's PEM file in tls.ca if you trust it",
    20: "its authority is unknown; name the authority's PEM file in tls.ca if you trust it",
    21: "its authority is unknown, and the server sends no chain; name the authority's PEM file in tls.ca",
    23: "it was revoked",
}
"""Reasons by OpenSSL's codes of verification errors (X509_V_ERR_*)."""
CLIENT_REFUSED: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a client certificate; set tls.cert",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the client certificate, or requires one; see tls.cert",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it says that the client certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it says that the client certificate was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the client certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it accepts none of the offered ciphers, or requires a client certificate",
}
"""Alerts with which a server ends a handshake. Some arrive after the client's first bytes, which it does not read."""
_OTHERS: Final = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS there; is it http:// instead of https://?",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are no longer secure",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks only versions of TLS that are no longer secure",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know this host name",
}


KEPT: Final = "; the content that was read before stays in use"
"""What follows from changed files that cannot be used."""
_PLAIN: Final = TlsConfig()
_SYSTEM: Final = RenewedContext(_PLAIN, lambda: context_of(_PLAIN), with_system=True)
"""The context of all upstreams that add nothing to what the system trusts."""


class Trust:
    """The TLS contexts of one upstream. They are made in a thread.

    While changed files cannot be used, the last contexts stay, and the log says so once for each problem.
    """

    def __init__(self, tls: TlsConfig | None, upstream: str) -> None:
        """`upstream`: its name, for the log."""
        self._upstream = upstream
        self._logged = ""
        """The problem that was logged last; empty once the files can be used."""
        own = tls or _PLAIN
        others = TlsConfig(ca=own.ca)
        self._own, self._others = _SYSTEM, _SYSTEM
        if own != _PLAIN:
            self._own = RenewedContext(own, lambda: context_of(own), with_system=own.ca is None)
        if others != _PLAIN:
            self._others = RenewedContext(others, lambda: context_of(others, with_system=True), with_system=True)

    async def context(self) -> ssl.SSLContext:
        """The context for a new connection to the upstream. Raises `Permanent` if a file cannot be used."""
        return await self._current(self._own)

    async def context_for_others(self) -> ssl.SSLContext:
        """The context for other hosts: it trusts what the system trusts, and `ca`. Raises `Permanent`."""
        return await self._current(self._others)

    @property
    def problem(self) -> str:
        """Why the content of files that was read before stays in use, for operators; usually empty."""
        stale = self._own.stale or self._others.stale
        return "" if stale is None else f"upstream {self._upstream}: {_named(stale)}{KEPT}"

    async def look(self) -> None:
        """Read changed files again, so that `problem` is up to date without a new connection."""
        for renewed in (self._own, self._others):
            if renewed.in_use:
                await self._current(renewed)

    async def _current(self, renewed: RenewedContext) -> ssl.SSLContext:
        unchanged = renewed.unchanged
        if unchanged is not None:
            return unchanged
        try:
            context = await asyncio.to_thread(renewed.current)
        except TlsFileError as error:
            raise Permanent(_named(error)) from None
        self._logged = _reported(self._logged, self.problem)
        return context


class TrustedAuthorities:
    """The TLS context of connections that a plugin makes. It trusts the authorities in a PEM file, or the system's.

    A changed file counts from the next connection on. While it cannot be used, for example because every user of this
    machine may write to it, the last context stays, and the log says so once for each problem.
    """

    def __init__(self, ca: str | os.PathLike[str] | None = None) -> None:
        """Reads the file. Raises `OSError`, with its path and the problem, if it cannot be used."""
        self._path = "" if ca is None else os.fspath(ca)
        self._problem = ""
        self._renewed = _SYSTEM
        if ca is not None:
            own = TlsConfig(ca=self._path)
            self._renewed = RenewedContext(own, lambda: context_of(own))
            try:
                self._renewed.current()
            except TlsFileError as problem:
                raise OSError(self._described(problem)) from None

    @property
    def problem(self) -> str:
        """Why the last context stays although the file has changed, for `warnings` of a plugin; usually empty."""
        return self._problem

    async def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        unchanged = self._renewed.unchanged
        if unchanged is not None:
            return unchanged
        context = await asyncio.to_thread(self._renewed.current)
        problem = self._renewed.problem
        self._problem = _reported(self._problem, "" if problem is None else self._described(problem), KEPT)
        return context

    def _described(self, problem: TlsFileError) -> str:
        return f"{self._path}: {problem}"


def _named(problem: TlsFileError) -> str:
    return f"tls.{problem.key}: {problem}"


def _reported(before: str, problem: str, addition: str = "") -> str:
    """Log a problem of changed files and `addition`, unless it is empty or equals the one from `before`. Returns it."""
    if problem and problem != before:
        logger.warning("{}{}", problem, addition)
    return problem


def why_untrusted(error: ssl.SSLCertVerificationError, host: str) -> str:
    """Why a certificate is not trusted, and what to do about it."""
    if error.verify_code in _WRONG_NAME:
        return f"it is valid for other names, not for {host}; use a name that it has in url"
    return _REASONS.get(error.verify_code) or error.verify_message or "its verification failed"


def why_failed(error: ssl.SSLError) -> str:
    """Why a TLS connection failed."""
    reason = error.reason or ""
    return CLIENT_REFUSED.get(reason) or _OTHERS.get(reason) or reason or type(error).__name__


def is_refused_client(error: BaseException) -> bool:
    """Whether the server ended the handshake because of the client's certificate, so that it read no request."""
    return isinstance(error, ssl.SSLError) and error.reason in CLIENT_REFUSED
