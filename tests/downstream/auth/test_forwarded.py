"""What trusted proxies say about their clients, and what others say."""

from typing import Any

import pytest

from gateway_core.config import TrustedProxiesConfig
from gateway_core.downstream.auth.forwarded import TrustedProxies
from gateway_core.http1.head import HttpError, RequestHead, read_head

PROXY, INNER = "10.0.0.1", "10.9.9.9"


def head(*lines: str) -> RequestHead:
    return read_head("\r\n".join(["POST /mcp HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())


def proxies(**settings: Any) -> TrustedProxies:
    return TrustedProxies(TrustedProxiesConfig(networks=("10.0.0.0/8", "2001:db8:1::/48"), **settings))


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        ((), PROXY),
        (("X-Forwarded-For: 203.0.113.9",), "203.0.113.9"),
        (("X-Forwarded-For: 198.51.100.7, 203.0.113.9",), "203.0.113.9"),  # the client made the first one up
        (("X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 203.0.113.9"), "203.0.113.9"),
        ((f"X-Forwarded-For: 203.0.113.9, {INNER}",), "203.0.113.9"),
        ((f"X-Forwarded-For: 198.51.100.7, 203.0.113.9,{INNER} , 2001:db8:1::5",), "203.0.113.9"),
        ((f"X-Forwarded-For: {INNER}",), INNER),
        (("X-Forwarded-For: 203.0.113.9:1234",), "203.0.113.9"),
        (("X-Forwarded-For: [2001:db8::9]:1234",), "2001:db8::9"),
        (("X-Forwarded-For: 2001:DB8:0::9",), "2001:db8::9"),
        (("X-Forwarded-For: ::ffff:203.0.113.9",), "203.0.113.9"),
        (("X-Forwarded-For: unknown",), PROXY),
        (("X-Forwarded-For: ",), PROXY),
        (("X-Forwarded-For: 203.0.113.9, ",), PROXY),
        (("X-Forwarded-For: 203.0.113.9, evil", f"X-Forwarded-For: {INNER}"), INNER),
        (("Forwarded: for=203.0.113.9",), PROXY),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(lines: tuple[str, ...], address: str) -> None:
    assert proxies().caller(PROXY, head(*lines)).address == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("for=203.0.113.9", "203.0.113.9"),
        ('For="203.0.113.9:80";proto=https;by=10.0.0.1', "203.0.113.9"),
        ('proto=https; for="[2001:db8::9]:4711"', "2001:db8::9"),
        ("for=198.51.100.7, for=203.0.113.9", "203.0.113.9"),
        (f'for=203.0.113.9;host="a, for=198.51.100.7", for={INNER}', "203.0.113.9"),
        ("for=203.0.113.9, proto=https", PROXY),
        ('host="a;for=198.51.100.7";for=203.0.113.9', "203.0.113.9"),
        ('host="\\";for=198.51.100.7, for=198.51.100.7";for=203.0.113.9', "203.0.113.9"),
        ('host="a; for=198.51.100.7"', PROXY),
        ("for=_hidden", PROXY),
        ("for=unknown", PROXY),
        ("xfor=198.51.100.7", PROXY),
        ("", PROXY),
    ],
)
def test_the_header_of_rfc_7239_is_read(value: str, address: str) -> None:
    found = proxies(header="Forwarded").caller(PROXY, head(f"Forwarded: {value}", "X-Forwarded-For: 198.51.100.1"))
    assert found.address == address


def test_others_are_not_believed() -> None:
    lines = head("X-Forwarded-For: 10.0.0.1", "X-User: alice")
    for peer in ("203.0.113.1", "11.0.0.1", "2001:db8:2::1", "stdio", ""):
        found = proxies(identity_header="X-User").caller(peer, lines)
        assert (found.address, found.principal) == (peer, None)
    found = TrustedProxies(TrustedProxiesConfig(identity_header="X-User")).caller(PROXY, lines)
    assert (found.address, found.principal) == (PROXY, None)


def test_a_trusted_proxy_names_the_person_if_the_file_says_so() -> None:
    lines = head("X-Forwarded-For: 203.0.113.9", "X-User: alice")
    assert proxies().caller(PROXY, lines).principal is None
    found = proxies(identity_header="X-User").caller(PROXY, lines)
    assert found.principal is not None
    assert (found.address, found.key, found.principal.verified) == ("203.0.113.9", "alice|proxy", True)
    assert found is proxies(identity_header="x-user").caller(PROXY, lines), "so that caches find it"
    assert proxies(identity_header="X-User").caller(PROXY, head("X-User: ")).principal is None


@pytest.mark.parametrize(
    "lines",
    [
        ("X-User: alice", "X-User: bob"),
        ("X-User: " + "a" * 513,),
        ("X-User: a\tb",),
        ("X-User: alice|proxy",),
        ("X-User: alice|https://login.example.com",),
    ],
)
def test_a_name_that_is_not_one_name_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(HttpError) as caught:
        proxies(identity_header="X-User").caller(PROXY, head(*lines))
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "lines",
    [
        ('Forwarded: for=6.6.6.6;x="', 'Forwarded: for="[2001:db8::1]:4711"'),
        ('Forwarded: for=6.6.6.6;x="', "Forwarded: for=203.0.113.9"),
        ('Forwarded: for=6.6.6.6;x="a, for=203.0.113.9',),
        ('Forwarded: for=1.2.3.4;host="a:443", for="',),
        ("Forwarded: nonsense, for=203.0.113.9",),
        ("Forwarded: for=203.0.113.9 for=6.6.6.6",),
        ("Forwarded: for=6.6.6.6;proto=http;For=203.0.113.9",),
        (f'Forwarded: {"for=1.1.1.1;" * 800}"',),
    ],
)
def test_a_client_cannot_hide_what_the_proxy_added(lines: tuple[str, ...]) -> None:
    with pytest.raises(HttpError) as caught:
        proxies(header="Forwarded").caller(PROXY, head(*lines))
    assert caught.value.status == 400


def test_a_loopback_proxy_may_be_written_either_way() -> None:
    for network in ("127.0.0.1", "::1"):
        trusted = TrustedProxies(TrustedProxiesConfig(networks=(f"{network}/{32 if '.' in network else 128}",)))
        assert trusted.caller("127.0.0.1", head("X-Forwarded-For: 203.0.113.9")).address == "203.0.113.9"
