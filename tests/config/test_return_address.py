"""Where the file must say at which address browsers return."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_core.config.return_address import check

USER = {"grant": "authorization_code", "identity": "user"}
BEHIND = {"trusted_proxies": {"networks": ["127.0.0.1"]}}


@pytest.mark.parametrize(
    "proxy",
    [
        {},
        {"host": "localhost"},
        {"host": "0.0.0.0", "public_url": "https://gateway.example.com"},
        {**BEHIND, "public_url": "https://gateway.example.com"},
    ],
)
def test_these_say_it_or_need_not(proxy: dict[str, Any]) -> None:
    assert list(check(proxy, USER)) == []


@pytest.mark.parametrize(
    ("proxy", "where"), [({"host": "0.0.0.0"}, "beyond loopback"), (BEHIND, "behind a proxy"), ({"host": 7}, "beyond")]
)
def test_these_must_say_it(proxy: dict[str, Any], where: str) -> None:
    (problem,) = check(proxy, USER)
    assert problem.path == ("mcp", "proxy", "public_url")
    assert f"is required {where}" in problem.message
    assert list(check(proxy, {"grant": "authorization_code"})) == []
