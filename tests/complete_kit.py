"""The complete example of the configuration, with the files and variables that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ENV: Final = {
    "FILES_API_KEY": "k1",
    "GATEWAY_STATE_KEY": "0123456789abcdef0123456789abcdef",
    "GITHUB_TOKEN": "k2",
    "SEARCH_TOKEN": "k3",
    "TICKETS_CLIENT_SECRET": "k4",
    "WEATHER_API_KEY": "k5",
}


def write_files(folder: Path) -> None:
    """Write the files that the example names."""
    (folder / "search.secret").write_text("k6\n")
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "gateway.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "company-ca.pem"))
    mine = authority.issue_cert("gateway.example.com", "127.0.0.1")
    mine.cert_chain_pems[0].write_to_path(str(folder / "gateway-cert.pem"))
    mine.private_key_pem.write_to_path(str(folder / "gateway-key.pem"))
