"""The table `tls` for agents, the TLS context that it describes, and the renewal of its certificate."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from gateway_core.config.fields import Filled
from gateway_core.config.tls import (
    RenewedContext,
    TlsFileError,
    TlsFiles,
    check_authorities,
    check_readable,
    load_certificate,
)
from gateway_core.errors import ConfigError
from gateway_core.http1.certificate import names_of

if TYPE_CHECKING:
    import ssl

DAY: Final = 86400.0
SOON: Final = 7 * DAY
"""Seconds before its end from which a certificate is warned about; renewal usually comes weeks before."""

_ALPN: Final = ["http/1.1"]


class ServerTlsConfig(TlsFiles):
    """TLS for agents. Relative paths start at the configuration file's folder; changed files are read again at once."""

    file_names = ("cert", "key", "client_ca")

    cert: Filled = Field(
        description="PEM file with the certificate of the gateway, and its chain.",
        examples=["/etc/letsencrypt/live/gateway.example.com/fullchain.pem"],
    )
    key: Filled | None = Field(
        default=None,
        description="PEM file with the key of `cert`, without a passphrase. Without it, `cert` holds the key as well.",
        examples=["/etc/letsencrypt/live/gateway.example.com/privkey.pem"],
    )
    client_ca: Filled | None = Field(
        default=None,
        description="PEM file with the authorities whose client certificates count.",
        examples=["agents-ca.pem"],
    )
    client_certificate: Literal["none", "optional", "required"] | None = Field(
        default=None,
        description="Whether agents are asked for a certificate. `required` serves no connection without one, not "
        "even `/healthz`; `optional` serves agents without one, too. A certificate that `client_ca` did not issue ends "
        "the connection. Without this key: `optional` with `client_ca`, otherwise `none`.",
        examples=["required"],
    )

    @property
    def asks(self) -> Literal["none", "optional", "required"]:
        """Whether agents are asked for a certificate."""
        return self.client_certificate or ("none" if self.client_ca is None else "optional")


def server_context_of(tls: ServerTlsConfig) -> ssl.SSLContext:
    """The TLS context that the table for agents describes. Reads its files. Raises `TlsFileError`."""
    import ssl  # noqa: PLC0415 - only gateways with TLS need it

    check_readable(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    load_certificate(context, tls.cert, tls.key)
    if tls.client_ca is not None and tls.asks != "none":
        check_authorities("client_ca", tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if tls.asks == "required" else ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate authority alone may be named
        try:
            context.load_verify_locations(tls.client_ca)
        except (ssl.SSLError, ValueError):
            raise TlsFileError("client_ca", "holds no certificate in PEM") from None
    return context


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What agents see of the gateway's certificate. Times are seconds since the epoch."""

    names: tuple[str, ...]
    begins: float
    expires: float

    def warning(self, now: float) -> str:
        """What is wrong with its validity at a time; empty if nothing is."""
        if now < self.begins:
            return f"the certificate is not valid before {_date(self.begins)}; compare the clock of this machine"
        if now >= self.expires:
            return f"the certificate expired on {_date(self.expires)}, and agents refuse it; renew it"
        if self.expires - now < SOON:
            return f"the certificate expires on {_date(self.expires)}; renew it"
        return ""


def shown_certificate(tls: ServerTlsConfig) -> ShownCertificate:
    """The first certificate in `cert`. Raises `TlsFileError`."""
    from cryptography import x509  # noqa: PLC0415 - only gateways with TLS need it

    try:
        with open(tls.cert, "rb") as file:
            found = x509.load_pem_x509_certificate(file.read())
        begins, expires = found.not_valid_before_utc, found.not_valid_after_utc
        return ShownCertificate(tuple(names_of(found)), begins.timestamp(), expires.timestamp())
    except OSError as error:
        raise TlsFileError("cert", f"cannot be read: {error.strerror}") from None
    except ValueError:
        raise TlsFileError("cert", "holds no certificate in PEM") from None


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


class ServerCertificate:
    """The certificate and the TLS context for agents. Reads the files again when they have changed."""

    def __init__(self, tls: ServerTlsConfig) -> None:
        """Raises `ConfigError` if a file cannot be used."""
        self._tls = tls
        self._renewed = RenewedContext(tls, self._read)
        self._warned = time.time()  # a start warns, too
        try:
            self.context: ssl.SSLContext = self._renewed.current()
        except TlsFileError as problem:
            raise ConfigError([f"mcp.proxy.tls.{problem.key}: {problem}"]) from None

    def _read(self) -> ssl.SSLContext:
        context = server_context_of(self._tls)
        self.shown = shown_certificate(self._tls)
        """What agents see."""
        return context

    def status(self) -> dict[str, Any]:
        """For `rad mcp proxy status`: its names, its end in seconds since the epoch, and whether agents show one.

        `problem`: why changed files cannot be used; None if they are in use.
        """
        return {
            "names": self.shown.names,
            "expires": self.shown.expires,
            "client_certificate": self._tls.asks,
            "problem": self._problem() or None,
        }

    def _problem(self) -> str:
        problem = self._renewed.problem
        return "" if problem is None else f"mcp.proxy.tls.{problem.key}: {problem}; the certificate in use stays"

    def poll(self) -> bool:
        """Whether `context` is another one now. Call about once a second.

        Logs a renewal, files that cannot be used (once per change), and once a day that the certificate ends soon.
        """
        from loguru import logger  # noqa: PLC0415 - slow to load, and commands read configurations without it

        before = self.context
        if self._renewed.settled():
            self.context = self._renewed.current()
            if problem := self._problem():
                logger.error("{}", problem)
            else:
                logger.info("the files of mcp.proxy.tls have changed; new connections use them")
        now = time.time()
        if now - self._warned >= DAY and (warning := self.shown.warning(now)):
            self._warned = now
            logger.warning("mcp.proxy.tls.cert: {}", warning)
        return self.context is not before
