"""Private keys in PEM, with which the gateway authenticates to an authorization server (`private_key`)."""

from __future__ import annotations

from typing import Final

RSA_BITS: Final = 2048
"""Minimum bits of an RSA key (RFC 7518, section 3.3)."""
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def algorithms(pem: str) -> tuple[str, ...]:
    """The algorithms of RFC 7518 and RFC 8037 that the key can sign with, the default first.

    Raises `ValueError` with a message for the operator that contains nothing of the key.
    """
    # Imported here because it is slow to load, and most configurations have no key.
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(pem.encode(), None)
    except TypeError:
        raise ValueError("must be a private key without a passphrase; keep the file itself safe") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a private key in PEM, for example ${file:gateway.pem}") from None
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < RSA_BITS:
            raise ValueError(f"must be an RSA key of at least {RSA_BITS} bits")
        return _RSA
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return ("EdDSA",)
    raise ValueError("must be an RSA, P-256, P-384, P-521, Ed25519 or Ed448 key")
