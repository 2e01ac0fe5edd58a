"""Names of this machine, and the check of Host and Origin."""

import pytest
from multidict import CIMultiDict

from gateway_core.http1.hosts import HostGuard, base_url, leads_to_loopback

GOOD_HOSTS = ["localhost", "localhost:3000", "LOCALHOST:1", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:3000"]
ALLOWED_HOSTS = ["gateway.example.com", "gateway.example.com:9", "GATEWAY.example.COM", "pinned.example:81"]
FOREIGN_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example",
    "127.1",
    "0x7f000001",
    "2130706433",
    "0.0.0.0",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[fe80::1]:80",
    "169.254.169.254",
    "gateway.example.com.evil.example",
    "pinned.example",
    "pinned.example:82",
    "localhost.",
]
MALFORMED_HOSTS = [
    "",
    "x/health?",
    "localhost/",
    "localhost?",
    "localhost#",
    "user@localhost",
    "localhost:",
    "localhost:99999",
    "localhost:80:80",
    "local host",
    "::1",
    "[::1",
    "[::1].evil.example",
    "[localhost]",
    "localhost,evil.example",
    "löcalhost",
]


@pytest.fixture
def guard() -> HostGuard:
    return HostGuard(
        "127.0.0.1", ["gateway.example.com", "pinned.example:81"], ["https://app.example.com", "vscode-webview://abc"]
    )


def verdict(guard: HostGuard, *headers: tuple[str, str]) -> int:
    refused = guard.check(CIMultiDict(headers))
    return 200 if refused is None else refused[0]


@pytest.mark.parametrize("host", GOOD_HOSTS + ALLOWED_HOSTS)
def test_hosts_that_name_this_machine_or_are_allowed_pass(guard: HostGuard, host: str) -> None:
    assert verdict(guard, ("Host", host)) == 200


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_other_hosts_are_forbidden(guard: HostGuard, host: str) -> None:
    assert verdict(guard, ("Host", host)) == 403


@pytest.mark.parametrize("host", MALFORMED_HOSTS)
def test_malformed_hosts_are_bad_requests(guard: HostGuard, host: str) -> None:
    assert verdict(guard, ("Host", host)) == 400


def test_exactly_one_host_is_required(guard: HostGuard) -> None:
    assert verdict(guard) == 400
    assert verdict(guard, ("Host", "localhost"), ("host", "localhost")) == 400


def test_the_configured_host_is_allowed() -> None:
    assert verdict(HostGuard("192.0.2.7"), ("Host", "192.0.2.7:3000")) == 200
    assert verdict(HostGuard("fd00::7"), ("Host", "[fd00::7]:3000")) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:6274",
        "https://127.0.0.1:1",
        "http://[::1]:80",
        "http://gateway.example.com:5",
        "https://app.example.com",
        "vscode-webview://abc",
    ],
)
def test_origins_of_this_machine_or_allowed_ones_pass(guard: HostGuard, origin: str) -> None:
    assert verdict(guard, ("Host", "localhost"), ("Origin", origin)) == 200


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://evil.example",
        "http://localhost.evil.example",
        "http://[::1].evil.example",
        "http://localhost@evil.example",
        "http://evil.example@localhost",
        "http://localhost/",
        "http://localhost?",
        "http://localhost#",
        "ftp://localhost",
        "file://",
        "localhost",
        "https://app.example.com:444",
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "http://localhost, http://localhost",
    ],
)
def test_other_origins_are_forbidden(guard: HostGuard, origin: str) -> None:
    assert verdict(guard, ("Host", "localhost"), ("Origin", origin)) == 403


def test_two_origins_are_forbidden(guard: HostGuard) -> None:
    twice = [("Origin", "http://localhost"), ("Origin", "http://localhost")]
    assert verdict(guard, ("Host", "localhost"), *twice) == 403


@pytest.mark.parametrize("host", ["localhost", "LocalHost.", "app.localhost", "127.0.0.9", "::1"])
def test_urls_that_stay_on_this_machine(host: str) -> None:
    assert leads_to_loopback(host)


@pytest.mark.parametrize("host", ["", ".", "localhost.example", "notlocalhost", "10.0.0.1", "::", "fe80::1"])
def test_urls_that_may_lead_elsewhere(host: str) -> None:
    assert not leads_to_loopback(host)


def test_a_name_below_localhost_is_no_host_of_a_request(guard: HostGuard) -> None:
    assert verdict(guard, ("Host", "app.localhost")) == 403


def test_addresses_of_both_families_become_urls() -> None:
    assert base_url("127.0.0.1", 3000) == "http://127.0.0.1:3000"
    assert base_url("::1", 3000) == "http://[::1]:3000"
    assert base_url("127.0.0.1", 3000, secure=True) == "https://127.0.0.1:3000"
    assert base_url("::1", 3000, secure=True) == "https://[::1]:3000"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://gateway.example.com", 200),
        ("https://gateway.example.com:8443", 200),
        ("http://gateway.example.com", 403),
        ("HTTP://gateway.example.com:5", 403),
        ("http://192.0.2.7", 403),
        ("https://192.0.2.7", 200),
        ("http://localhost:6274", 200),
        ("http://127.0.0.1", 200),
        ("http://written.example.com", 200),
        ("https://written.example.com", 403),
    ],
)
def test_with_tls_a_page_that_came_without_it_is_no_page_of_an_allowed_host(origin: str, status: int) -> None:
    guard = HostGuard("192.0.2.7", ["gateway.example.com"], ["http://written.example.com"], secure=True)
    assert verdict(guard, ("Host", "gateway.example.com"), ("Origin", origin)) == status


@pytest.mark.parametrize(("origins", "advice"), [(None, "of allowed_hosts may use it"), ((), "allowed_origins")])
def test_a_refused_origin_names_only_a_key_that_would_help(origins, advice):
    status, reason = HostGuard("localhost", (), origins).judge("localhost", "https://app.example.com")
    assert status == 403
    assert advice in reason
