"""Forwarded headers beside the other keys, with the line of each mistake."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w

from gateway_core.config import loads
from gateway_core.errors import ConfigError


def problems(upstream: dict[str, Any], **proxy: Any) -> str:
    keys = {"name": "t", "transport": "http", "url": "http://t/mcp", **upstream}
    text = tomli_w.dumps({"mcp": {"proxy": {"enable": True, **proxy, "upstreams": [keys]}}})
    with pytest.raises(ConfigError) as caught:
        loads(text, Path("mcp-proxy.toml"))
    return str(caught.value)


def test_stdio_has_no_headers() -> None:
    keys = {"name": "t", "transport": "stdio", "command": "x", "forward": {"X-A": "principal.subject"}}
    text = tomli_w.dumps({"mcp": {"proxy": {"enable": True, "upstreams": [keys]}}})
    with pytest.raises(ConfigError, match=r'forward: upstream "t": does not belong to transport = "stdio"'):
        loads(text, Path("mcp-proxy.toml"))


def test_a_header_is_written_once() -> None:
    found = problems({"headers": {"X-A": "1"}, "forward": {"x-a": "principal.subject"}})
    assert "is also written by this upstream's headers; remove one of the two" in found
    assert "mcp-proxy.toml:" in found
    assert "this upstream's forward" in problems({"forward": {"X-A": "principal.id", "x-a": "principal.subject"}})


def test_authorization_has_one_owner() -> None:
    auth = {"client_id": "gw", "client_secret": "s3cr3t-of-gw"}
    found = problems({"auth": auth, "forward": {"Authorization": "header:X-Tracker-Authorization"}})
    assert "is also written by this upstream's auth" in found


def test_the_identity_header_of_proxies_is_no_source() -> None:
    trusted = {"networks": ["10.0.0.1/32"], "identity_header": "X-Forwarded-User"}
    found = problems({"forward": {"X-A": "header:x-forwarded-user?"}}, trusted_proxies=trusted)
    assert 'write "principal.subject" instead' in found


AUTH = {"client_id": "gw", "client_secret": "s3cr3t-of-gw"}


def test_the_file_decides_who_gets_the_tokens_of_agents() -> None:
    found = problems({"auth": {**AUTH, "grant": "token_exchange"}})
    assert "auth.issuer" in found
    assert "which the upstream must not choose" in found


def test_keys_of_the_exchange_have_no_effect_elsewhere() -> None:
    found = problems({"auth": {**AUTH, "audience": "tracker", "subject_token_type": "jwt"}})
    assert found.count('has no effect without grant = "token_exchange"; remove it') == 2


def test_a_client_exchanges_with_its_credentials() -> None:
    found = problems({"auth": {"grant": "token_exchange", "token_url": "https://as.example/token"}})
    assert "auth.client_id" in found
    assert "auth.client_secret" in found
