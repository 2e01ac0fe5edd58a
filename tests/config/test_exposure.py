"""Addresses that other machines can reach, keys that others can read, and certificates that end are warned about."""

import datetime
from pathlib import Path

import pytest
import trustme

from gateway_core.config import ProxyConfig, UpstreamConfig, exposure
from gateway_core.config.sections import ControlConfig
from gateway_core.config.server_tls import ServerTlsConfig
from gateway_core.config.tls import TlsConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_nothing_is_said_about_loopback(host: str) -> None:
    assert exposure(ProxyConfig(host=host, control=ControlConfig(host=host))) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1", "gateway.example.com"])
def test_other_addresses_are_warned_about(host: str) -> None:
    (warning,) = exposure(ProxyConfig(host=host))
    assert warning.startswith(f'mcp.proxy.host is "{host}": other machines may be able to connect')
    (warning,) = exposure(ProxyConfig(control=ControlConfig(host=host)))
    assert warning.startswith(f'mcp.proxy.control.host is "{host}": the admin token crosses the network')


@pytest.fixture
def tls(tmp_path: Path) -> ServerTlsConfig:
    issued = trustme.CA().issue_cert("a.example", not_after=datetime.datetime.now(datetime.UTC) + WEEK + WEEK)
    return files_of(issued, tmp_path)


WEEK = datetime.timedelta(days=7)


def files_of(issued: trustme.LeafCert, folder: Path) -> ServerTlsConfig:
    cert, key = folder / "cert.pem", folder / "a key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    key.chmod(0o600)
    return ServerTlsConfig(cert=str(cert), key=str(key))


def test_a_private_key_that_others_can_read_is_warned_about(tls: ServerTlsConfig) -> None:
    upstream = UpstreamConfig(
        name="web", transport="http", url="https://a.example/mcp", tls=TlsConfig(cert=tls.cert, key=tls.key)
    )
    proxy = ProxyConfig(tls=tls, upstreams=(upstream,))
    assert exposure(proxy) == []
    assert tls.key is not None
    Path(tls.key).chmod(0o644)
    advice = f"every user of this machine can read the private key; run: chmod o-rwx '{tls.key}'"
    assert exposure(proxy) == [f"mcp.proxy.tls.key: {advice}", f"upstream web: tls.key: {advice}"]


def test_a_certificate_that_has_expired_is_warned_about(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("a.example", not_after=datetime.datetime.now(datetime.UTC) - WEEK)
    (warning,) = exposure(ProxyConfig(tls=files_of(issued, tmp_path)))
    assert warning.startswith("mcp.proxy.tls.cert: the certificate expired on ")


def test_a_certificate_that_is_replaced_meanwhile_is_no_error(tls: ServerTlsConfig) -> None:
    Path(tls.cert).unlink()
    assert exposure(ProxyConfig(tls=tls)) == ["mcp.proxy.tls.cert: cannot be read: No such file or directory"]
