"""The certificate that a TLS client has shown, and the names in certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate of a TLS client. Its chain was verified during the handshake."""

    subject: str
    """The distinguished name (RFC 4514), e.g. `CN=alice,O=Example`; may be empty."""
    names: tuple[str, ...] = ()
    """The subject's alternative names, each with its kind: `DNS:a.example`, `URI:spiffe://…`, `email:a@example.org`,
    `IP:192.0.2.1`."""
    fingerprint: str = ""
    """SHA-256 of the certificate (DER), in hexadecimal digits."""
    expires: float = 0.0
    """The end of its validity, in seconds since the epoch."""


def read_certificate(der: bytes) -> ClientCertificate:
    """The certificate in `der`. Raises `ValueError` if a part of it cannot be read."""
    from cryptography import x509  # noqa: PLC0415 - only connections with a client certificate need it

    found = x509.load_der_x509_certificate(der)
    return ClientCertificate(
        found.subject.rfc4514_string(),
        tuple(names_of(found)),
        hashlib.sha256(der).hexdigest(),
        found.not_valid_after_utc.timestamp(),
    )


def names_of(certificate: Certificate) -> Iterator[str]:
    """The alternative names of the subject, as `ClientCertificate` has them. Raises `ValueError`."""
    from cryptography import x509  # noqa: PLC0415

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    except x509.DuplicateExtension:
        raise ValueError("it has an extension twice") from None
    for name in names:
        if isinstance(name, x509.DNSName):
            yield f"DNS:{name.value}"
        elif isinstance(name, x509.UniformResourceIdentifier):
            yield f"URI:{name.value}"
        elif isinstance(name, x509.RFC822Name):
            yield f"email:{name.value}"
        elif isinstance(name, x509.IPAddress):
            yield f"IP:{name.value}"
