"""The table `[mcp.proxy.tls]`, with certificates made for the test, and the renewal of its files."""

from __future__ import annotations

import datetime
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from loguru import logger

from gateway_core.config import Config, loads
from gateway_core.config.server_tls import ServerCertificate, ServerTlsConfig, server_context_of, shown_certificate
from gateway_core.errors import ConfigError

HEAD = "[mcp.proxy]\nenable = true\n[mcp.proxy.tls]\n"
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder with the files of a server and of an authority."""
    mine = authority.issue_cert("gateway.example.com", "127.0.0.1")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    write(tmp_path, mine)
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.issue_cert("other.example").private_key_pem.write_to_path(str(tmp_path / "other-key.pem"))
    key = load_pem_private_key(mine.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"hunter2")
    (tmp_path / "locked.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    of_another_kind = rsa.generate_private_key(65537, 2048)
    (tmp_path / "rsa-key.pem").write_bytes(
        of_another_kind.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "empty.pem").write_text("")
    return tmp_path


def write(folder: Path, issued: trustme.LeafCert) -> None:
    """Replace the certificate and the key, each at once."""
    for name, data in (("cert.pem", issued.cert_chain_pems[0]), ("key.pem", issued.private_key_pem)):
        (folder / "new").write_bytes(data.bytes())
        (folder / "new").chmod(0o600)
        os.replace(folder / "new", folder / name)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message).strip()), format="{level} {message}")
    yield found
    logger.remove(sink)


def load(text: str, folder: Path) -> Config:
    return loads(HEAD + text, folder / "mcp-proxy.toml", {})


def tls_of(folder: Path, **keys: Any) -> ServerTlsConfig:
    return ServerTlsConfig(cert=str(folder / "cert.pem"), key=str(folder / "key.pem"), **keys)


# -- the table --------------------------------------------------------------------------------------------------------


def test_authorities_that_every_user_may_change_are_refused_unless_the_operator_trusts_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    table = 'cert = "cert.pem"\nkey = "key.pem"\nclient_ca = "ca.pem"'
    (folder / "ca.pem").chmod(0o666)
    with pytest.raises(ConfigError, match=r"tls\.client_ca: every user of this machine may write to it"):
        load(table, folder)
    monkeypatch.setenv("RADIUM_TRUST_CONFIG", "1")
    assert load(table, folder).proxy.tls is not None
    monkeypatch.delenv("RADIUM_TRUST_CONFIG")
    (folder / "ca.pem").chmod(0o644)
    certificate = ServerCertificate(tls_of(folder, client_ca=str(folder / "ca.pem")))
    before = certificate.context
    (folder / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    (folder / "ca.pem").chmod(0o666)
    for _ in range(3):
        certificate.poll()
    assert certificate.context is before
    assert any("client_ca: every user of this machine may write to it" in line for line in lines)


def test_paths_start_at_the_folder_of_the_file(folder: Path) -> None:
    found = load('cert = "cert.pem"\nkey = "key.pem"\nclient_ca = "ca.pem"', folder).proxy.tls
    assert found == tls_of(folder, client_ca=str(folder / "ca.pem"))
    assert loads("[mcp.proxy]\nenable = true\n", folder / "mcp-proxy.toml", {}).proxy.tls is None


@pytest.mark.parametrize(
    ("tls", "key", "problem"),
    [
        ('key = "key.pem"', "cert", "is required"),
        ('cert = "none.pem"', "cert", "cannot be read: No such file or directory"),
        ('cert = "text.pem"', "cert", "holds no certificate in PEM"),
        ('cert = "empty.pem"', "cert", "holds no certificate in PEM"),
        ('cert = "cert.pem"', "cert", "holds no private key in PEM; name the file of the key in key"),
        ('cert = "cert.pem"\nkey = "none.pem"', "key", "cannot be read"),
        ('cert = "cert.pem"\nkey = "ca.pem"', "key", "holds no private key in PEM"),
        ('cert = "cert.pem"\nkey = "other-key.pem"', "key", "does not belong to the certificate"),
        ('cert = "cert.pem"\nkey = "rsa-key.pem"', "key", "does not belong to the certificate"),
        ('cert = "cert.pem"\nkey = "locked.pem"', "key", "is encrypted with a passphrase"),
        ('cert = "both.pem"\nclient_ca = "text.pem"', "client_ca", "holds no certificate in PEM"),
        ('cert = "both.pem"\nclient_ca = "none.pem"', "client_ca", "cannot be read"),
        ('cert = "both.pem"\nclient_certificate = "required"', "client_ca", "is required for client_certificate"),
        ('cert = "both.pem"\nclient_certificate = "optional"', "client_ca", "is required for client_certificate"),
        (
            'cert = "both.pem"\nclient_ca = "ca.pem"\nclient_certificate = "none"',
            "client_certificate",
            "client_ca has no effect",
        ),
        ('cert = "both.pem"\nclient_certificate = "always"', "client_certificate", 'must be one of "none", "optional"'),
        ('cert = "both.pem"\nverify = true', "verify", "it belongs in [mcp.proxy.upstreams.tls]"),
    ],
)
def test_a_table_that_cannot_be_used_is_reported(folder: Path, tls: str, key: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tls, folder)
    [text] = caught.value.problems
    assert "mcp-proxy.toml:" in text
    assert f": mcp.proxy.tls.{key}: " in text
    assert problem in text
    assert "PRIVATE" not in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("tls", "asks"), [(None, False), ('cert = "both.pem"', False), ('cert = "both.pem"\nclient_ca = "ca.pem"', True)]
)
def test_agents_may_present_certificates_if_their_authority_is_known(folder: Path, tls: str | None, asks: bool) -> None:
    proxy = loads("[mcp.proxy]\nenable = true\n", folder / "x.toml").proxy if tls is None else load(tls, folder).proxy
    assert proxy.asks_certificates is asks


def test_a_key_that_is_too_short_is_named(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name.from_rfc4514_string("CN=short")
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + DAY).sign(key, hashes.SHA256())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "short.pem").write_bytes(private + made.public_bytes(Encoding.PEM))
    with pytest.raises(ConfigError, match=r"mcp\.proxy\.tls\.cert: the key of the certificate is too short"):
        load('cert = "short.pem"', folder)


@pytest.mark.parametrize(
    ("keys", "asks", "mode"),
    [
        ({}, "none", ssl.CERT_NONE),
        ({"client_certificate": "none"}, "none", ssl.CERT_NONE),
        ({"client_ca": "ca.pem"}, "optional", ssl.CERT_OPTIONAL),
        ({"client_ca": "ca.pem", "client_certificate": "optional"}, "optional", ssl.CERT_OPTIONAL),
        ({"client_ca": "ca.pem", "client_certificate": "required"}, "required", ssl.CERT_REQUIRED),
    ],
)
def test_the_context_is_what_the_table_says(folder: Path, keys: dict[str, str], asks: str, mode: int) -> None:
    if "client_ca" in keys:
        keys = {**keys, "client_ca": str(folder / keys["client_ca"])}
    tls = tls_of(folder, **keys)
    context = server_context_of(tls)
    assert tls.asks == asks
    assert context.verify_mode is ssl.VerifyMode(mode)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert len(context.get_ca_certs()) == (mode is not ssl.CERT_NONE)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """The client's side after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0]


@pytest.mark.parametrize(("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)])
def test_http_1_1_is_agreed_on(folder: Path, authority: trustme.CA, offered: list[str], chosen: str | None) -> None:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if offered:
        client.set_alpn_protocols(offered)
    assert handshake(server_context_of(tls_of(folder)), client).selected_alpn_protocol() == chosen


def test_an_intermediate_authority_alone_can_be_named(folder: Path, authority: trustme.CA) -> None:
    between = authority.create_child_ca()
    between.cert_pem.write_to_path(str(folder / "between.pem"))
    server = server_context_of(tls_of(folder, client_ca=str(folder / "between.pem"), client_certificate="required"))
    client = ssl.create_default_context()
    authority.configure_trust(client)
    client.maximum_version = ssl.TLSVersion.TLSv1_2  # so that the client's side waits for the verification
    between.issue_cert("agent.example").configure_cert(client)
    assert handshake(server, client).getpeercert()
    authority.issue_cert("agent.example").configure_cert(client)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, client)


@pytest.mark.parametrize(("usage", "accepted"), [("CLIENT_AUTH", True), ("SERVER_AUTH", False)])
def test_a_certificate_for_another_purpose_is_no_client_certificate(
    folder: Path, authority: trustme.CA, usage: str, accepted: bool
) -> None:
    issuer, holder = x509.Name.from_rfc4514_string("CN=root"), x509.Name.from_rfc4514_string("CN=agent")
    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    purpose = x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, usage)])
    ours = x509.CertificateBuilder(issuer, issuer, root.public_key(), 1, NOW - DAY, NOW + DAY)
    ours = ours.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    theirs = x509.CertificateBuilder(issuer, holder, key.public_key(), 2, NOW - DAY, NOW + DAY)
    theirs = theirs.add_extension(purpose, critical=False)
    (folder / "root.pem").write_bytes(ours.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "agent.pem").write_bytes(private + theirs.sign(root, hashes.SHA256()).public_bytes(Encoding.PEM))
    server = server_context_of(tls_of(folder, client_ca=str(folder / "root.pem"), client_certificate="required"))
    client = ssl.create_default_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    authority.configure_trust(client)
    client.load_cert_chain(folder / "agent.pem")
    if accepted:
        assert handshake(server, client).getpeercert()
    else:
        with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
            handshake(server, client)


def test_the_exposed_key_is_the_file_that_holds_it(folder: Path) -> None:
    (folder / "both.pem").chmod(0o604)
    assert ServerTlsConfig(cert=str(folder / "both.pem")).exposed_key == ("cert", str(folder / "both.pem"))
    assert tls_of(folder).exposed_key is None
    (folder / "key.pem").chmod(0o644)
    assert tls_of(folder).exposed_key == ("key", str(folder / "key.pem"))
    (folder / "key.pem").chmod(0o640)
    assert tls_of(folder).exposed_key is None
    (folder / "key.pem").unlink()
    assert tls_of(folder).exposed_key is None


# -- validity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins", "ends", "warning"),
    [
        (-DAY, 30 * DAY, ""),
        (-30 * DAY, 6 * DAY, "the certificate expires on 20"),
        (-30 * DAY, -DAY, "and agents refuse it; renew it"),
        (DAY, 30 * DAY, "is not valid before 20"),
    ],
)
def test_a_certificate_that_is_or_soon_becomes_invalid_is_warned_about(
    folder: Path, authority: trustme.CA, begins: datetime.timedelta, ends: datetime.timedelta, warning: str
) -> None:
    write(folder, authority.issue_cert("a.example", not_before=NOW + begins, not_after=NOW + ends))
    found = shown_certificate(tls_of(folder))
    assert found.names == ("DNS:a.example",)
    text = found.warning(NOW.timestamp())
    assert (warning in text) if warning else (text == "")


def test_the_certificate_that_is_shown_is_the_first_one(folder: Path, authority: trustme.CA) -> None:
    with (folder / "both.pem").open("ab") as file:
        file.write(authority.cert_pem.bytes())
    assert shown_certificate(ServerTlsConfig(cert=str(folder / "both.pem"))).names == (
        "DNS:gateway.example.com",
        "IP:127.0.0.1",
    )


# -- renewal ----------------------------------------------------------------------------------------------------------


def test_changed_files_are_read_once_they_have_settled(folder: Path, authority: trustme.CA, lines: list[str]) -> None:
    certificate = ServerCertificate(tls_of(folder))
    first = certificate.context
    assert not any(certificate.poll() for _ in range(3))
    write(folder, authority.issue_cert("renewed.example"))
    assert not certificate.poll()  # the files have changed since the last look, and may go on changing
    assert certificate.poll()
    assert certificate.context is not first
    assert certificate.status()["names"] == ("DNS:renewed.example",)
    assert certificate.status()["problem"] is None
    assert not any(certificate.poll() for _ in range(3))
    assert lines == ["INFO the files of mcp.proxy.tls have changed; new connections use them"]


def test_files_that_cannot_be_used_are_reported_once_per_change(
    folder: Path, authority: trustme.CA, lines: list[str]
) -> None:
    certificate = ServerCertificate(tls_of(folder))
    first, shown = certificate.context, certificate.shown
    key = folder / "key.pem"
    for text in ("broken", "broken again"):
        key.write_text(text)
        assert not any(certificate.poll() for _ in range(5))
        assert certificate.status()["problem"] == (
            "mcp.proxy.tls.key: holds no private key in PEM; the certificate in use stays"
        )
    key.unlink()
    assert not any(certificate.poll() for _ in range(5))
    assert (certificate.context, certificate.shown) == (first, shown)
    wrong = "ERROR mcp.proxy.tls.key: holds no private key in PEM; the certificate in use stays"
    assert lines == [
        wrong,
        wrong,
        "ERROR mcp.proxy.tls.key: cannot be read: No such file or directory; the certificate in use stays",
    ]
    write(folder, authority.issue_cert("renewed.example"))
    assert any(certificate.poll() for _ in range(2))


def test_permissions_that_are_mended_are_noticed(folder: Path, lines: list[str]) -> None:
    certificate = ServerCertificate(tls_of(folder))
    before = (folder / "key.pem").stat()
    (folder / "key.pem").chmod(0o640)
    assert (folder / "key.pem").stat().st_mtime_ns == before.st_mtime_ns
    assert any(certificate.poll() for _ in range(2))


def test_a_certificate_that_ends_soon_is_warned_about_once_a_day(
    folder: Path, authority: trustme.CA, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [NOW.timestamp()]
    monkeypatch.setattr("time.time", lambda: clock[0])
    write(folder, authority.issue_cert("a.example", not_after=NOW + 5 * DAY))
    certificate = ServerCertificate(tls_of(folder))
    for _ in range(3 * 24 + 1):  # three days
        certificate.poll()
        clock[0] += 3600
    assert len(lines) == 3
    assert all(line.startswith("WARNING mcp.proxy.tls.cert: the certificate expires on ") for line in lines)


def test_a_start_with_files_that_are_gone_names_the_key(folder: Path) -> None:
    tls = tls_of(folder)
    (folder / "key.pem").unlink()
    with pytest.raises(ConfigError, match=r"mcp\.proxy\.tls\.key: cannot be read"):
        ServerCertificate(tls)
