"""What is read of a client's certificate."""

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from gateway_core.http1.certificate import read_certificate

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def test_all_kinds_of_names_are_read() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name.from_rfc4514_string(r"CN=alice\, a,O=Example")
    names = [
        x509.DNSName("a.example"),
        x509.UniformResourceIdentifier("spiffe://example.org/agents/a"),
        x509.RFC822Name("alice@example.org"),
        x509.DirectoryName(subject),
    ]
    ends = datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(ends)
    )
    der = (
        builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    found = read_certificate(der)
    assert found.subject == r"CN=alice\, a,O=Example"
    assert found.names == ("DNS:a.example", "URI:spiffe://example.org/agents/a", "email:alice@example.org")
    assert found.expires == ends.timestamp()
    assert len(found.fingerprint) == 64
    without = read_certificate(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert without.names == ()


@pytest.mark.parametrize("data", [b"", b"x", b"0\x03\x02\x01\x01"])
def test_what_is_no_certificate_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_certificate(data)
