"""Which addresses a stranger may lead to."""

from __future__ import annotations

import pytest

from gateway_core.upstream.auth.reach import allowed, kind_of

KINDS = {
    "93.184.215.14": "public",
    "2606:2800:220:1::1": "public",
    "::ffff:93.184.215.14": "public",
    "64:ff9b::5db8:d70e": "public",
    "127.0.0.1": "loopback",
    "127.255.0.9": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
    "10.1.2.3": "private",
    "172.16.0.1": "private",
    "192.168.0.1": "private",
    "100.64.0.1": "private",
    "fd00::1": "private",
    "::ffff:10.0.0.1": "private",
    "64:ff9b::a00:1": "private",
    "169.254.169.254": "link-local",
    "fe80::1%eth0": "link-local",
    "64:ff9b::a9fe:a9fe": "link-local",
    "0.0.0.0": "other",
    "::": "other",
    "224.0.0.1": "other",
    "ff02::1": "other",
    "255.255.255.255": "other",
}


@pytest.mark.parametrize(("address", "kind"), KINDS.items())
def test_kinds(address: str, kind: str) -> None:
    assert kind_of(address) == kind


@pytest.mark.parametrize(
    ("address", "upstream", "may"),
    [
        ("93.184.215.14", [], True),
        ("93.184.215.14", ["10.0.0.1"], True),
        ("10.0.0.2", ["10.0.0.1", "fd00::1"], True),
        ("10.0.0.2", ["10.0.0.1", "93.184.215.14"], False),
        ("10.0.0.2", ["93.184.215.14"], False),
        ("10.0.0.2", ["127.0.0.1"], False),
        ("127.0.0.1", ["10.0.0.1"], False),
        ("127.0.0.1", ["127.0.0.1", "::1"], True),
        ("127.0.0.1", [], False),
        ("169.254.169.254", ["10.0.0.1"], False),
        ("0.0.0.0", ["0.0.0.0"], False),
    ],
)
def test_only_the_kind_of_the_upstream_itself(address: str, upstream: list[str], may: bool) -> None:
    assert allowed(address, upstream) is may
