"""The TLS context with which `call` connects to the running gateway."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway_core.cli.locate import UsageError
from gateway_core.cli.report import Failed
from gateway_core.config.tls import TlsFileError, load_certificate


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """The files with the client certificate of `call`."""

    cert: Path | None = None
    key: Path | None = None

    def check(self, *, tls: bool) -> None:
        """Raise `UsageError` for options without effect. `tls`: whether a gateway runs and uses TLS."""
        if self.key is not None and self.cert is None:
            raise UsageError("--client-key has no effect without --client-cert, the certificate that it belongs to")
        if self.cert is not None and not tls:
            raise UsageError("--client-cert has no effect: no gateway with TLS is running for this file")


def context_for(certificate: str, status: Mapping[str, Any], client: ClientFiles) -> ssl.SSLContext:
    """The context for the gateway with this certificate file and this status.

    It trusts exactly that certificate, under any name, because the command connects to an address of this machine.
    Raises `Failed` if a file cannot be used, or if a client certificate is required and missing.
    """
    from cryptography import x509  # noqa: PLC0415 - only gateways with TLS need it
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    asks = (status.get("certificate") or {}).get("client_certificate")
    if asks == "required" and client.cert is None:
        raise Failed("the gateway requires a client certificate: use --client-cert FILE and --client-key FILE")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        shown = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        context.load_verify_locations(cadata=shown.public_bytes(Encoding.DER))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no certificate in PEM"
        raise Failed(f"the certificate of the gateway cannot be read: {certificate}: {why}") from None
    if client.cert is not None:
        try:
            load_certificate(context, str(client.cert), None if client.key is None else str(client.key))
        except OSError as error:
            raise Failed(f"--client-cert or --client-key: cannot be read: {error.strerror}") from None
        except TlsFileError as problem:
            raise Failed(f"--client-{problem.key}: {problem}") from None
    return context
