"""The table `tls` of an upstream, and the TLS context that it describes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from gateway_core.config.fields import Filled
from gateway_core.config.sections import Section

if TYPE_CHECKING:
    import ssl


class TlsFileError(Exception):
    """A file of the table cannot be used. `key` names its key, and the text says why."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


class TlsConfig(Section):
    """TLS to an upstream. Relative paths start at the configuration file's folder."""

    ca: Filled | None = Field(
        default=None,
        description="PEM file with the certificates to trust instead of the system's: of an authority, or of "
        "the server itself.",
        examples=["company-ca.pem"],
    )
    cert: Filled | None = Field(
        default=None,
        description="PEM file with the client certificate of the gateway, and its chain.",
        examples=["gateway.pem"],
    )
    key: Filled | None = Field(
        default=None,
        description="PEM file with the key of `cert`, without a passphrase. Without it, `cert` holds the key as well.",
        examples=["gateway-key.pem"],
    )
    verify: bool = Field(
        default=True,
        description="`false` accepts any certificate, so an attacker on the way can read and change everything. "
        "Only for tests.",
    )

    @property
    def files(self) -> Iterator[tuple[str, str]]:
        """The keys that name files, with their paths."""
        for key in ("ca", "cert", "key"):
            path = getattr(self, key)
            if path is not None:
                yield key, path


def context_of(tls: TlsConfig, *, with_system: bool = False) -> ssl.SSLContext:
    """The TLS context that the table describes. Reads its files. Raises `TlsFileError`.

    `with_system`: trust the certificates of the system besides `ca`.
    """
    import ssl  # noqa: PLC0415 - only upstreams with https need it

    for key, path in tls.files:
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise TlsFileError(key, f"cannot be read: {error.strerror}") from None
    try:
        context = ssl.create_default_context(cafile=None if with_system else tls.ca)
        if with_system and tls.ca is not None:
            context.load_verify_locations(tls.ca)
    except (ssl.SSLError, ValueError):
        raise TlsFileError("ca", "holds no certificate in PEM") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except TlsFileError as problem:
            raise TlsFileError("cert" if tls.key is None else "key", str(problem)) from None
        except (ssl.SSLError, ValueError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                raise TlsFileError("key" if tls.key else "cert", "the key does not belong to the certificate") from None
            raise TlsFileError("cert", "holds no certificate in PEM, or its key is missing or no PEM") from None
    return context


def _no_passphrase() -> str:
    """Called for an encrypted key. Without it, OpenSSL would ask on the terminal."""
    raise TlsFileError("key", "is encrypted with a passphrase; write it without one, readable by the gateway alone")
