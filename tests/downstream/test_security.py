"""Host and Origin: who may talk to the server at all."""

import http.client
from typing import Any

import pytest

from gateway_core.downstream.security import HostGuard
from gateway_core.http1.head import HttpError, read_head

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
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    try:
        guard.check(read_head(f"GET / HTTP/1.1\r\n{lines}\r\n".encode()))
    except HttpError as error:
        return error.status
    return 200


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


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/mcp", "/", "/sse", "/messages", "/healthz", "/readyz", "/admin/status", "/nowhere"])
async def test_every_method_and_path_is_guarded(sse_world: Any, method: str, path: str) -> None:
    for name, value in [("Host", "evil.example"), ("Origin", "http://evil.example")]:
        async with sse_world.http.request(method, sse_world.base + path, headers={name: value}) as response:
            assert response.status == 403


async def test_a_forged_host_does_not_move_the_path(world: Any) -> None:
    answer = await world.raw(b"POST /mcp HTTP/1.1\r\nHost: x/healthz?\r\nContent-Length: 0\r\n\r\n", read_for=1)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert http.client.responses[400].encode() in answer
