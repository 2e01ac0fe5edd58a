"""The table `tls` of an upstream, with certificates made for the test."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway_core.config import Config, loads
from gateway_core.config.tls import TlsConfig, context_of
from gateway_core.errors import ConfigError

HEAD = """[mcp.proxy]
enable = true
[[mcp.proxy.upstreams]]
name = "web"
transport = "http"
url = "https://mcp.example.com/mcp"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    """A folder with the files of two authorities and of one client."""
    authority, mine = trustme.CA(), trustme.CA().issue_cert("gateway.example.com")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    authority.issue_cert("other.example").private_key_pem.write_to_path(str(tmp_path / "other-key.pem"))
    key = load_pem_private_key(mine.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"hunter2")
    (tmp_path / "locked.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    (tmp_path / "text.pem").write_text("no certificate")
    (tmp_path / "folder.pem").mkdir()
    os.mkfifo(tmp_path / "pipe.pem")
    authority.cert_pem.write_to_path(str(tmp_path / "open.pem"))
    (tmp_path / "open.pem").chmod(0o666)
    return tmp_path


def load(text: str, folder: Path) -> Config:
    return loads(HEAD + text, folder / "mcp-proxy.toml", {})


def test_paths_start_at_the_folder_of_the_file(folder: Path) -> None:
    [upstream] = load('tls = { ca = "ca.pem", cert = "cert.pem", key = "key.pem" }', folder).proxy.upstreams
    assert upstream.tls == TlsConfig(
        ca=str(folder / "ca.pem"), cert=str(folder / "cert.pem"), key=str(folder / "key.pem")
    )


@pytest.mark.parametrize(
    ("tls", "key", "problem"),
    [
        ('{ ca = "none.pem" }', "ca", "cannot be read: No such file or directory"),
        ('{ ca = "folder.pem" }', "ca", "cannot be read: Is a directory"),
        ('{ ca = "pipe.pem" }', "ca", "it is no ordinary file"),
        ('{ ca = "text.pem" }', "ca", "holds no certificate in PEM"),
        ('{ ca = "open.pem" }', "ca", "every user of this machine may write to it; run: chmod o-w "),
        ('{ cert = "text.pem", key = "key.pem" }', "cert", "holds no certificate in PEM"),
        ('{ cert = "cert.pem" }', "cert", "holds no private key in PEM; name the file of the key in key"),
        ('{ cert = "cert.pem", key = "none.pem" }', "key", "cannot be read"),
        ('{ cert = "cert.pem", key = "other-key.pem" }', "key", "does not belong to the certificate"),
        ('{ cert = "cert.pem", key = "locked.pem" }', "key", "is encrypted with a passphrase"),
        ('{ key = "key.pem" }', "key", "has no effect without cert"),
        ('{ ca = "ca.pem", verify = false }', "verify", "ca has no effect"),
        ('{ verify = "no" }', "verify", "true or false"),
        ("{ cafile = 1 }", "cafile", "is not a known key"),
    ],
)
def test_a_table_that_cannot_be_used_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tls: str, key: str, problem: str
) -> None:
    monkeypatch.delenv("RADIUM_TRUST_CONFIG", raising=False)
    with pytest.raises(ConfigError) as caught:
        load(f"tls = {tls}", folder)
    [text] = caught.value.problems
    assert f'mcp-proxy.toml:7: mcp.proxy.upstreams[0].tls.{key}: upstream "web": ' in text
    assert problem in text


def test_authorities_that_every_user_may_change_are_used_if_the_operator_trusts_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADIUM_TRUST_CONFIG", "1")
    [upstream] = load('tls = { ca = "open.pem" }', folder).proxy.upstreams
    assert upstream.tls == TlsConfig(ca=str(folder / "open.pem"))


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_tls_has_no_effect_without_https(folder: Path, transport: str) -> None:
    text = HEAD.replace('"http"', f'"{transport}"').replace("https:", "http:") + "tls = { verify = false }"
    with pytest.raises(ConfigError, match="has no effect for an http:// url"):
        loads(text, folder / "mcp-proxy.toml", {})


def test_stdio_has_neither_tls_nor_a_proxy(folder: Path) -> None:
    text = '[mcp.proxy]\nenable = true\n[[mcp.proxy.upstreams]]\nname = "a"\ntransport = "stdio"\ncommand = "cat"\n'
    with pytest.raises(ConfigError) as caught:
        loads(f'{text}proxy = "none"\ntls = {{ verify = false }}', folder / "mcp-proxy.toml", {})
    assert [problem.partition(": upstream")[0].rpartition(".")[2] for problem in caught.value.problems] == [
        "proxy",
        "tls",
    ]


def test_the_context_is_what_the_table_says(folder: Path) -> None:
    usual = context_of(TlsConfig())
    assert (usual.verify_mode, usual.check_hostname) == (ssl.CERT_REQUIRED, True)
    careless = context_of(TlsConfig(verify=False))
    assert (careless.verify_mode, careless.check_hostname) == (ssl.CERT_NONE, False)
    own = context_of(TlsConfig(ca=str(folder / "ca.pem"), cert=str(folder / "both.pem")))
    assert len(own.get_ca_certs()) == 1
    assert own.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    "value",
    ["http://proxy.example:3128", "http://me:pass%40word@proxy.example", "http://[2001:db8::1]:3128/", "none"],
)
def test_a_proxy_is_a_url_or_none(folder: Path, value: str) -> None:
    assert load(f'proxy = "{value}"', folder).proxy.upstreams[0].proxy == value


@pytest.mark.parametrize(
    "value",
    ["", "proxy.example:3128", "https://proxy.example", "socks5://hunter2@p", "http://p/x", "http://p:0", "http://p?a"],
)
def test_what_is_no_proxy_is_refused_without_its_value(folder: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f'proxy = "{value}"', folder)
    assert "hunter2" not in str(caught.value)
    assert "upstreams[0].proxy" in str(caught.value)
