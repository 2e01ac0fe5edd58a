"""TLS to upstreams: private authorities, client certificates, and why a certificate is not trusted."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from loguru import logger

from gateway_core.config.tls import TlsConfig
from gateway_core.errors import NotSent, Permanent
from gateway_core.upstream.network import host, trust
from tests.upstream.network.conftest import server_context

IN_USE = "; the content that was read before stays in use"


@pytest.fixture
def warned() -> Iterator[list[str]]:
    """The warnings in the log."""
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
    yield lines
    logger.remove(sink)


async def test_a_plugin_trusts_what_its_file_has_now(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    authorities = trust.TrustedAuthorities(path)
    first = await authorities.context()
    assert await authorities.context() is first
    trustme.CA().cert_pem.write_to_path(str(path))
    second = await authorities.context()
    assert second.get_ca_certs() != first.get_ca_certs()
    assert await trust.TrustedAuthorities().context() is await trust.Trust(None, "a").context()


def test_a_file_that_a_plugin_cannot_use_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    path = tmp_path / "ca.pem"
    found = []
    for prepare in (lambda: None, lambda: path.write_text("no certificate"), lambda: path.chmod(0o666)):
        prepare()
        with pytest.raises(OSError, match=r"ca\.pem") as caught:
            trust.TrustedAuthorities(path)
        found.append(str(caught.value))
    assert found == [
        f"{path}: cannot be read: No such file or directory",
        f"{path}: holds no certificate in PEM",
        f"{path}: every user of this machine may write to it; run: chmod o-w {path}"
        "; where that is intended, as in a container: RADIUM_TRUST_CONFIG=1",
    ]


async def test_a_plugin_keeps_what_it_read_while_its_changed_file_cannot_be_used_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: list[str]
) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    authorities = trust.TrustedAuthorities(path)
    first = await authorities.context()
    for text in ("no certificate", "still no certificate"):
        path.write_text(text)
        assert [await authorities.context() for _ in range(3)] == [first] * 3
    damaged = f"{path}: holds no certificate in PEM"
    assert authorities.problem == damaged
    assert warned == [damaged + IN_USE]
    trustme.CA().cert_pem.write_to_path(str(path))
    path.chmod(0o666)
    assert await authorities.context() is first
    assert authorities.problem.startswith(f"{path}: every user of this machine may write to it; run: chmod o-w {path}")
    path.chmod(0o644)
    assert await authorities.context() is not first
    assert authorities.problem == ""
    path.write_text("no certificate")
    await authorities.context()
    assert [line.partition(": ")[2].partition(";")[0] for line in warned] == [
        "holds no certificate in PEM",
        "every user of this machine may write to it",
        "holds no certificate in PEM",
    ]


async def test_the_log_says_once_that_changed_files_of_an_upstream_cannot_be_used(
    tmp_path: Path, warned: list[str]
) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    own = trust.Trust(TlsConfig(ca=str(path)), "web")
    before = await own.context(), await own.context_for_others()
    path.write_text("no certificate")
    assert (await own.context(), await own.context_for_others()) == before
    assert warned == ["upstream web: tls.ca: holds no certificate in PEM" + IN_USE]
    assert own.problem == warned[0]
    trustme.CA().cert_pem.write_to_path(str(path))
    await own.look()
    assert own.problem == ""
    assert await own.context() not in before
    assert await own.context_for_others() not in before
    assert len(warned) == 1


async def test_files_that_were_never_read_are_no_problem_of_a_look(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    own = trust.Trust(TlsConfig(ca=str(path)), "web")
    await own.look()
    with pytest.raises(Permanent, match="holds no certificate"):
        await own.context()
    await own.look()
    assert own.problem == ""


CALL = ("tools/call", {"name": "t", "arguments": {}})
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


async def answer(seen: Any, writer: Any) -> None:
    reply = json.dumps({"jsonrpc": "2.0", "id": seen.message.get("id"), "result": {"n": 1}})
    head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(reply)}\r\n\r\n"
    writer.write(f"{head}{reply}".encode())


def self_signed(folder: Path, *, begins: datetime.datetime = NOW - DAY, ends: datetime.datetime = NOW + DAY) -> Path:
    """A self-signed certificate for `localhost` with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def context_from(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_a_private_authority_is_trusted_where_it_is_named(
    scripted: Any, connect: Any, authority: trustme.CA, ca_file: str
) -> None:
    server = await scripted(answer, tls=server_context(authority.issue_cert("localhost", "127.0.0.1")))
    for name in ("localhost", "127.0.0.1"):
        link = await connect(f"https://{name}:{server.port}/mcp", tls={"ca": ca_file})
        assert json.loads((await link.connection.request(*CALL)).result) == {"n": 1}


async def test_the_certificate_of_the_server_itself_can_be_named(scripted: Any, connect: Any, tmp_path: Path) -> None:
    path = self_signed(tmp_path)
    server = await scripted(answer, tls=context_from(path))
    link = await connect(f"https://localhost:{server.port}/mcp", tls={"ca": str(path)})
    assert (await link.connection.request(*CALL)).error is None


def expired(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    return server_context(authority.issue_cert("localhost", not_after=NOW - DAY))


def not_yet(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    return server_context(authority.issue_cert("localhost", not_before=NOW + DAY, not_after=NOW + 2 * DAY))


def wrong_host(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    return server_context(authority.issue_cert("other.example"))


def unknown_authority(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    return server_context(trustme.CA().issue_cert("localhost"))


def alone(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    return context_from(self_signed(folder))


def with_its_authority(authority: trustme.CA, folder: Path) -> ssl.SSLContext:
    other = trustme.CA()
    certificate = other.issue_cert("localhost")
    path = folder / "chain.pem"
    path.write_bytes(
        certificate.private_key_pem.bytes()
        + b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        + other.cert_pem.bytes()
    )
    return context_from(path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (expired, "it has expired"),
        (not_yet, "it is not valid yet"),
        (wrong_host, "not for localhost"),
        (unknown_authority, "its authority is unknown"),
        (alone, "it is self-signed"),
        (with_its_authority, "an authority that is not trusted"),
    ],
)
async def test_why_a_certificate_is_not_trusted(
    scripted: Any,
    connect: Any,
    authority: trustme.CA,
    ca_file: str,
    tmp_path: Path,
    make: Callable[[trustme.CA, Path], ssl.SSLContext],
    why: str,
) -> None:
    server = await scripted(answer, tls=make(authority, tmp_path))
    url = f"https://localhost:{server.port}/mcp"
    link = await connect(url, tls={"ca": ca_file}, opened=False)
    with pytest.raises(Permanent, match=f"the certificate of localhost:{server.port} is not trusted: .*{why}"):
        await link.connection.open(None)
    assert server.seen == []
    careless = await connect(url, tls={"verify": False})
    assert (await careless.connection.request(*CALL)).error is None


async def test_a_wrong_address_is_named(scripted: Any, connect: Any, authority: trustme.CA, ca_file: str) -> None:
    server = await scripted(answer, tls=server_context(authority.issue_cert("localhost")))
    link = await connect(f"https://127.0.0.1:{server.port}/mcp", tls={"ca": ca_file}, opened=False)
    with pytest.raises(Permanent, match=r"not for 127\.0\.0\.1"):
        await link.connection.open(None)


async def test_the_systems_authorities_are_the_default(scripted: Any, connect: Any, authority: trustme.CA) -> None:
    server = await scripted(answer, tls=server_context(authority.issue_cert("localhost")))
    link = await connect(f"https://localhost:{server.port}/mcp", opened=False)
    with pytest.raises(Permanent, match="its authority is unknown"):
        await link.connection.open(None)


async def test_http_where_https_is_expected_is_said(connect: Any, listen_on: Any) -> None:
    async def serve(reader: Any, writer: Any) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    link = await connect(f"https://localhost:{await listen_on(serve)}/mcp", opened=False)
    with pytest.raises(NotSent, match="does not speak TLS there; is it http:// instead of https://"):
        await link.connection.open(None)


@pytest.fixture
def asking(authority: trustme.CA) -> ssl.SSLContext:
    """A server that serves only clients with a certificate of the authority."""
    context = server_context(authority.issue_cert("localhost"))
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    return context


@pytest.mark.parametrize("together", [False, True])
async def test_a_client_certificate_is_shown(
    scripted: Any, connect: Any, authority: trustme.CA, ca_file: str, tmp_path: Path, asking: Any, together: bool
) -> None:
    mine = authority.issue_cert("gateway.example")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    mine.private_key_and_cert_chain_pem.write_to_path(str(cert))
    if not together:
        cert.write_bytes(mine.cert_chain_pems[0].bytes())
        mine.private_key_pem.write_to_path(str(key))
    tls = {"ca": ca_file, "cert": str(cert)} | ({} if together else {"key": str(key)})
    server = await scripted(answer, tls=asking)
    link = await connect(f"https://localhost:{server.port}/mcp", tls=tls)
    assert (await link.connection.request(*CALL)).error is None


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize(
    ("version", "noticed"),
    [(ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, False), (ssl.TLSVersion.TLSv1_3, True)],
)
async def test_a_missing_or_foreign_client_certificate_is_said_and_nothing_was_sent(
    connect: Any,
    ca_file: str,
    tmp_path: Path,
    asking: Any,
    version: ssl.TLSVersion,
    noticed: bool,
    foreign: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`noticed`: the alert is read before the request is written."""
    asking.minimum_version = asking.maximum_version = version
    dial = host.dial

    async def dial_and_lose(*args: Any) -> Any:
        connection: Any = await dial(*args)
        while connection._transport is not None:
            await asyncio.sleep(0.01)
        return connection

    if noticed:
        monkeypatch.setattr(host, "dial", dial_and_lose)
    tls = {"ca": ca_file}
    if foreign:
        trustme.CA().issue_cert("x.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
        tls["cert"] = str(tmp_path / "cert.pem")
    # asyncio's servers close without the alert that says why, so this one is of threads.
    listener = socket.create_server(("127.0.0.1", 0))
    got: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            with socket.socket(fileno=os.dup(accepted.fileno())) as raw:
                wrapped = asking.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
                with contextlib.suppress(OSError):
                    wrapped.do_handshake()
                    got.append(wrapped.recv(100))
                raw.shutdown(socket.SHUT_WR)
                while raw.recv(65536):  # a reset could overtake the alert
                    pass
                wrapped.close()

    threading.Thread(target=serve, daemon=True).start()
    link = await connect(f"https://localhost:{listener.getsockname()[1]}/mcp", tls=tls, opened=False)
    with pytest.raises(Permanent, match=r"certificate"):
        await link.connection.open(None)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    assert got == []


async def test_renewed_files_are_read_again(scripted: Any, connect: Any, authority: trustme.CA, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    server = await scripted(answer, tls=server_context(authority.issue_cert("localhost")))
    link = await connect(f"https://localhost:{server.port}/mcp", tls={"ca": str(path)}, opened=False)
    with pytest.raises(Permanent, match="authority is unknown"):
        await link.connection.open(None)
    renewed = tmp_path / "new.pem"
    authority.cert_pem.write_to_path(str(renewed))
    os.replace(renewed, path)
    await link.connection.open(None)
    assert (await link.connection.request(*CALL)).error is None
    path.unlink()  # while files are being replaced, the last good ones serve
    for connection in list(link.http.connections._open):
        connection.close()
    await asyncio.sleep(0)
    assert (await link.connection.request(*CALL)).error is None


@pytest.mark.parametrize("own", [False, True])
async def test_renewed_certificates_of_the_system_are_read_again(
    scripted: Any,
    connect: Any,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    """`own`: the upstream has a context of its own, for a client certificate."""
    path, renewed, mine = tmp_path / "system.pem", tmp_path / "new.pem", tmp_path / "mine.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    authority.issue_cert("gateway.example").private_key_and_cert_chain_pem.write_to_path(str(mine))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    server = await scripted(answer, tls=server_context(authority.issue_cert("localhost")))
    tls = {"cert": str(mine)} if own else {}
    link = await connect(f"https://localhost:{server.port}/mcp", tls=tls, opened=False)
    with pytest.raises(Permanent, match="authority is unknown"):
        await link.connection.open(None)
    others = trust.Trust(TlsConfig(ca=str(path)), "a")
    before = await others.context_for_others()
    authority.cert_pem.write_to_path(str(renewed))
    os.replace(renewed, path)
    await link.connection.open(None)
    assert (await link.connection.request(*CALL)).error is None
    assert await others.context_for_others() is not before


async def test_a_file_that_is_gone_is_named(connect: Any, tmp_path: Path) -> None:
    link = await connect("https://localhost:1/mcp", tls={"ca": str(tmp_path / "none.pem")}, opened=False)
    with pytest.raises(Permanent, match=r"tls\.ca: cannot be read: No such file"):
        await link.connection.open(None)


async def test_contexts_are_made_in_a_thread_and_once(ca_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[threading.Thread] = []
    make = trust.context_of

    def make_seen(*args: Any, **kwargs: Any) -> ssl.SSLContext:
        made.append(threading.current_thread())
        return make(*args, **kwargs)

    monkeypatch.setattr(trust, "context_of", make_seen)
    own = trust.Trust(TlsConfig(ca=ca_file), "a")
    contexts = await asyncio.gather(*(own.context() for _ in range(5)), *(own.context_for_others() for _ in range(5)))
    assert len(set(contexts[:5])) == len(set(contexts[5:])) == 1
    assert len(made) == 2
    assert threading.current_thread() not in made


async def test_upstreams_that_trust_what_the_system_trusts_share_one_context() -> None:
    one, other = trust.Trust(None, "a"), trust.Trust(TlsConfig(), "b")
    assert await one.context() is await other.context() is await other.context_for_others()
    careless = trust.Trust(TlsConfig(verify=False), "c")
    assert await careless.context() is not await one.context()
    assert await careless.context_for_others() is await one.context()
