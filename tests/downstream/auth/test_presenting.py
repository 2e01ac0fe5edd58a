"""What of a request is kept for upstreams."""

from typing import Any

import pytest

from gateway_core.config import ProxyConfig, UpstreamConfig
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
