"""Addresses that other machines can reach are warned about."""

import pytest

from gateway_core.config import ProxyConfig, exposure
from gateway_core.config.sections import ControlConfig


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_nothing_is_said_about_loopback(host: str) -> None:
    assert exposure(ProxyConfig(host=host, control=ControlConfig(host=host))) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "2001:db8::1", "gateway.example.com"])
def test_other_addresses_are_warned_about(host: str) -> None:
    (warning,) = exposure(ProxyConfig(host=host))
    assert warning.startswith(f'mcp.proxy.host is "{host}": other machines may be able to connect')
    (warning,) = exposure(ProxyConfig(control=ControlConfig(host=host)))
    assert warning.startswith(f'mcp.proxy.control.host is "{host}": the admin token crosses the network')
