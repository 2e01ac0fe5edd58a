"""The commands over a running gateway with TLS."""

from __future__ import annotations

import json
import ssl
import urllib.request
from pathlib import Path

import pytest
import trustme

from gateway_core.cli.instance import read_instance
from gateway_core.cli.locate import UsageError
from gateway_core.cli.report import Failed
from gateway_core.cli.tools.tls import ClientFiles, context_for

pytestmark = pytest.mark.timeout(180)  # some run ten processes one after the other


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, authority):
    """The files of a server whose certificate has none of this machine's names, and of a client."""
    server, agent = authority.issue_cert("gateway.example.com"), authority.issue_cert("agent.example.com")
    for name, issued in (("server", server), ("agent", agent)):
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(tmp_path / f"{name}-key.pem"))
        (tmp_path / f"{name}-key.pem").chmod(0o600)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path


def serve(config: Path, asks: str) -> None:
    tls = '\n[mcp.proxy.tls]\ncert = "../server.pem"\nkey = "../server-key.pem"\n'
    if asks != "none":
        tls += f'client_ca = "../ca.pem"\nclient_certificate = "{asks}"\n'
    head, table, rest = config.read_text().partition("[[mcp.proxy.upstreams]]")
    config.write_text(head + tls + "\n" + table + rest)


@pytest.mark.parametrize("asks", ["none", "required"])
def test_commands_reach_a_gateway_with_tls(with_server, files, authority, rad, wait_for, wait_for_upstream, asks):
    config = with_server / ".radium" / "mcp-proxy.toml"
    serve(config, asks)
    assert rad("check").returncode == 0
    started = rad("start", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        running = read_instance(config.with_suffix(".pid"))
        assert running.address.startswith("https://127.0.0.1:")
        assert running.address in started.stdout
        assert "/server.pem" in running.certificate
        wait_for_upstream()
        shown = rad("status")
        assert f"{running.address}/mcp" in shown.stdout
        clients = "; client certificates are required" if asks == "required" else ""
        assert "DNS:gateway.example.com; expires in " in shown.stdout
        assert (clients in shown.stdout) if clients else ("client certificates" not in shown.stdout)
        assert "add" in rad("tools").stdout
        arguments = ("add", "--arg", "a=2", "--arg", "b=3")
        own = ("--client-cert", str(files / "agent.pem"), "--client-key", str(files / "agent-key.pem"))
        called = rad("call", *arguments, *(own if asks == "required" else ()))
        assert (called.returncode, called.stdout) == (0, "5\n"), called.stderr
        if asks == "required":
            without = rad("call", *arguments)
            assert without.returncode == 1
            assert "requires a client certificate: use --client-cert FILE" in without.stderr
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        authority.configure_trust(trusting)
        if asks == "required":
            trusting.load_cert_chain(files / "agent.pem", files / "agent-key.pem")
        for path in ("healthz", "readyz"):
            with urllib.request.urlopen(f"{running.address}/{path}", context=trusting) as answer:
                assert answer.status == 200
        wait_for(lambda: running.address in config.with_suffix(".log").read_text())
        log = config.with_suffix(".log").read_text()
        assert "server-key" not in log
        assert "PRIVATE" not in log + started.stdout + shown.stdout
    finally:
        rad("stop", "--now")


def test_check_reports_a_file_that_cannot_be_used_and_a_key_that_others_can_read(with_server, files, rad):
    config = with_server / ".radium" / "mcp-proxy.toml"
    serve(config, "none")
    (files / "server-key.pem").chmod(0o644)
    found = rad("check")
    assert found.returncode == 0
    assert "warning: mcp.proxy.tls.key: every user of this machine can read the private key" in found.stdout
    (files / "server-key.pem").write_bytes((files / "agent-key.pem").read_bytes())
    for command in ("check", "start"):
        refused = rad(command)
        assert refused.returncode == 2
        assert "mcp.proxy.tls.key: the key does not belong to the certificate" in refused.stderr
    as_json = json.loads(rad("check", "--json").stdout)
    assert [one["key"] for one in as_json["problems"]] == ["mcp.proxy.tls.key"]


def test_a_client_certificate_without_effect_is_wrong_usage(tmp_path):
    ClientFiles().check(tls=False)
    ClientFiles(tmp_path).check(tls=True)
    with pytest.raises(UsageError, match="--client-key has no effect without --client-cert"):
        ClientFiles(None, tmp_path).check(tls=True)
    with pytest.raises(UsageError, match="--client-cert has no effect: no gateway with TLS is running"):
        ClientFiles(tmp_path).check(tls=False)


@pytest.mark.parametrize(
    ("certificate", "client", "message"),
    [
        ("none.pem", (), "the certificate of the gateway cannot be read: .*none.pem: No such file"),
        ("agent-key.pem", (), "it holds no certificate in PEM"),
        ("server.pem", ("none.pem",), "--client-cert or --client-key: cannot be read: No such file"),
        ("server.pem", ("agent.pem",), "--client-cert: holds no private key in PEM"),
        ("server.pem", ("agent.pem", "server-key.pem"), "--client-key: the key does not belong to the certificate"),
    ],
)
def test_files_that_cannot_be_used_are_named(files, certificate, client, message):
    given = ClientFiles(*(files / name for name in client))
    with pytest.raises(Failed, match=message):
        context_for(str(files / certificate), {}, given)


def test_exactly_the_certificate_of_the_gateway_is_trusted(files, authority):
    """Another certificate of the same authority is not, although any name is accepted."""
    context = context_for(str(files / "server.pem"), {}, ClientFiles())
    assert not context.check_hostname
    for name, accepted in (("server", True), ("agent", False)):
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(files / f"{name}.pem", files / f"{name}-key.pem")
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = context.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
        theirs = server.wrap_bio(to_server, to_client, server_side=True)
        for step in (ours, theirs):
            with pytest.raises(ssl.SSLWantReadError):
                step.do_handshake()
        if accepted:
            ours.do_handshake()
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                ours.do_handshake()
