"""Addresses that other machines can reach are refused without authentication, or warned about.

So are keys that others can read, and certificates that end.
"""

import datetime
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

from gateway_core.config import (
    ProxyConfig,
    TrustedProxiesConfig,
    UpstreamConfig,
    exposure,
    forwarded_headers,
    is_local,
    passes_credentials_on,
    unprotected,
)
from gateway_core.config.auth import AuthConfig
from gateway_core.config.sections import ControlConfig
from gateway_core.config.server_tls import ServerTlsConfig
from gateway_core.config.tls import TlsConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_loopback_needs_no_authentication(host: str) -> None:
    assert exposure(ProxyConfig(host=host, control=ControlConfig(host=host)), authenticates=False) == []
    assert unprotected(ProxyConfig(host=host), authenticates=False) is None


def test_users_who_log_in_must_be_known() -> None:
    auth = AuthConfig(grant="authorization_code", identity="user")
    upstream = UpstreamConfig(name="tracker", transport="http", url="http://t/mcp", auth=auth)
    proxy = ProxyConfig(upstreams=(upstream,))
    (warning,) = exposure(proxy, authenticates=False)
    assert warning.startswith("nothing authenticates agents, so that no user can log in at upstream tracker")
    assert exposure(proxy, authenticates=True) == []
    trusted = TrustedProxiesConfig(networks=("127.0.0.1/32",), identity_header="X-User")
    assert exposure(proxy.model_copy(update={"trusted_proxies": trusted}), authenticates=False) == []


def test_a_gateway_is_local_only_if_no_proxy_or_address_leads_others_to_it() -> None:
    assert is_local(ProxyConfig())
    assert is_local(ProxyConfig(public_url="http://localhost:8080"))
    assert not is_local(ProxyConfig(public_url="https://gateway.example.com"))
    assert not is_local(ProxyConfig(trusted_proxies=TrustedProxiesConfig(networks=("127.0.0.1/32",))))
    assert not is_local(ProxyConfig(host="0.0.0.0", anonymous=True))


def test_a_credential_for_the_gateway_reaches_no_upstream() -> None:
    forward = {"X-Key": "header:X-Api-Key", "X-User": "principal.subject"}
    upstream = UpstreamConfig(name="t", transport="http", url="http://t/mcp", forward=forward)
    proxy = ProxyConfig(upstreams=(upstream,))
    assert passes_credentials_on(proxy, ("authorization",)) is None
    reason = passes_credentials_on(proxy, ("authorization", "x-api-key"))
    assert reason is not None
    assert reason.startswith('upstream "t": forward.X-Key names the header x-api-key, which proves to the gateway')


def test_the_headers_that_upstreams_get_are_known_in_lower_case() -> None:
    one = UpstreamConfig(name="t", transport="http", url="http://t/mcp", forward={"X-Key": "header:X-Tracker-Key?"})
    other = UpstreamConfig(name="u", transport="http", url="http://u/mcp", forward={"X-User": "principal.claims.email"})
    assert forwarded_headers(ProxyConfig(upstreams=(one, other))) == {"x-tracker-key"}


OTHERS = ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1", "gateway.example.com"]
PROXY = TrustedProxiesConfig(networks=("10.0.0.0/8",), identity_header="X-User")


@pytest.mark.parametrize("host", OTHERS)
def test_other_addresses_are_refused_unless_something_authenticates_agents(host: str) -> None:
    reason = unprotected(ProxyConfig(host=host), authenticates=False)
    assert reason is not None
    assert reason.startswith(f'mcp.proxy.host is "{host}": other machines may be able to connect')
    only_addresses = TrustedProxiesConfig(networks=("10.0.0.0/8",))
    assert unprotected(ProxyConfig(host=host, trusted_proxies=only_addresses), authenticates=False) is not None
    for proxy in (ProxyConfig(host=host, anonymous=True), ProxyConfig(host=host, trusted_proxies=PROXY)):
        assert unprotected(proxy, authenticates=False) is None
    assert unprotected(ProxyConfig(host=host), authenticates=True) is None


@pytest.mark.parametrize("host", OTHERS)
def test_what_is_open_to_others_is_warned_about(host: str) -> None:
    (warning,) = exposure(ProxyConfig(host=host, anonymous=True), authenticates=False)
    assert warning.startswith(f'mcp.proxy.host is "{host}" and anonymous is true: everybody who reaches the port')
    assert exposure(ProxyConfig(host=host, anonymous=True), authenticates=True) == []
    assert exposure(ProxyConfig(host=host), authenticates=False) == [], "it is refused instead"
    assert exposure(ProxyConfig(host=host, trusted_proxies=PROXY), authenticates=False) == []
    (warning,) = exposure(ProxyConfig(control=ControlConfig(host=host)), authenticates=False)
    assert warning.startswith(f'mcp.proxy.control.host is "{host}": its tokens cross the network')


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
    assert exposure(proxy, authenticates=True) == []
    assert tls.key is not None
    Path(tls.key).chmod(0o644)
    advice = f"every user of this machine can read the private key; run: chmod o-rwx '{tls.key}'"
    assert exposure(proxy, authenticates=True) == [f"mcp.proxy.tls.key: {advice}", f"upstream web: tls.key: {advice}"]


def test_a_certificate_that_has_expired_is_warned_about(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("a.example", not_after=datetime.datetime.now(datetime.UTC) - WEEK)
    (warning,) = exposure(ProxyConfig(tls=files_of(issued, tmp_path)), authenticates=True)
    assert warning.startswith("mcp.proxy.tls.cert: the certificate expired on ")


def test_a_certificate_that_is_replaced_meanwhile_is_no_error(tls: ServerTlsConfig) -> None:
    Path(tls.cert).unlink()
    assert exposure(ProxyConfig(tls=tls), authenticates=True) == [
        "mcp.proxy.tls.cert: cannot be read: No such file or directory"
    ]


@pytest.mark.parametrize("name", ["X-Request-Id", "mcp-session-id", "a b", "Authorization", "X-Forwarded-For"])
def test_a_person_is_named_in_a_header_of_its_own(name: str) -> None:
    with pytest.raises(ValidationError):
        TrustedProxiesConfig(identity_header=name)
