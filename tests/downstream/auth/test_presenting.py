"""What of a request is kept for upstreams."""

from typing import Any

import pytest

from gateway_core.api import Principal
from gateway_core.config import AuthConfig, ProxyConfig, UpstreamConfig
from gateway_core.downstream.auth.caller import Caller
from gateway_core.downstream.auth.presenting import Presenting
from gateway_core.http1.head import read_head

FORWARD = {"X-Api-Key": "header:X-Tracker-Key", "X-User": "principal.subject"}


def presenting() -> Presenting:
    keys = {"transport": "http", "url": "http://t/mcp"}
    upstreams = (
        UpstreamConfig(name="a", forward=FORWARD, **keys),  # type: ignore[arg-type]
        UpstreamConfig(name="b", forward={"K": "header:x-tracker-key?", "L": "header:X-L"}, **keys),  # type: ignore[arg-type]
    )
    return Presenting.of(ProxyConfig(upstreams=upstreams))


def head(*lines: str) -> Any:
    return read_head("\r\n".join(("POST /mcp HTTP/1.1", "Host: x", *lines, "", "")).encode())


def test_only_headers_that_an_upstream_gets_are_kept() -> None:
    made, caller = presenting(), Caller("127.0.0.1")
    assert made.headers == ("x-tracker-key", "x-l")
    found = made.by(caller, head("X-Tracker-Key: k", "X-Other: o", "Authorization: Bearer t")).presented
    assert (found.header("x-tracker-key"), found.header("x-l"), found.header("authorization")) == ("k", None, None)
    assert found.token is None


@pytest.mark.parametrize("lines", [(), ("X-Tracker-Key: ",), ("X-Tracker-Key: a", "x-tracker-key: b")])
def test_a_request_without_a_usable_header_leaves_the_caller_as_it_is(lines: tuple[str, ...]) -> None:
    caller = Caller("127.0.0.1")
    assert presenting().by(caller, head(*lines)) is caller


def exchanging() -> Presenting:
    auth = AuthConfig(grant="token_exchange", client_id="gw", token_url="https://as.example/token")
    upstream = UpstreamConfig(name="a", transport="http", url="http://t/mcp", auth=auth)
    return Presenting.of(ProxyConfig(upstreams=(upstream,)))


BEARER = "Authorization: Bearer t-1"


def test_a_token_that_an_authorization_server_vouches_for_is_kept() -> None:
    ada = Caller("127.0.0.1", Principal.proven("ada", issuer="https://login.example.com"))
    found = exchanging().by(ada, head(BEARER))
    assert (found.presented.token, found.principal) == ("t-1", ada.principal)
    assert exchanging().by(ada, head(BEARER, BEARER)) is ada
    assert exchanging().by(ada, head()) is ada
    assert Presenting.of(ProxyConfig()).by(ada, head(BEARER)) is ada


@pytest.mark.parametrize("issuer", ["auth_apikey", "auth_mtls", "proxy"])
def test_a_bearer_that_is_no_access_token_is_not_kept(issuer: str) -> None:
    for caller in (Caller("127.0.0.1", Principal.proven("ada", issuer=issuer)), Caller("127.0.0.1")):
        assert exchanging().by(caller, head(BEARER)) is caller
