"""Addresses that other machines can reach are refused without authentication, or warned about."""

import pytest

from gateway_core.config import ProxyConfig, TrustedProxiesConfig, exposure, unprotected
from gateway_core.config.sections import ControlConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_loopback_needs_no_authentication(host: str) -> None:
    assert exposure(ProxyConfig(host=host, control=ControlConfig(host=host)), authenticates=False) == []
    assert unprotected(ProxyConfig(host=host), authenticates=False) is None


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
    assert exposure(ProxyConfig(host=host, trusted_proxies=PROXY), authenticates=False) == []
    (warning,) = exposure(ProxyConfig(control=ControlConfig(host=host)), authenticates=False)
    assert warning.startswith(f'mcp.proxy.control.host is "{host}": the admin token crosses the network')
