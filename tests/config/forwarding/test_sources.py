"""Where forwarded values may come from."""

import pytest
from pydantic import ValidationError

from gateway_core.config import UpstreamConfig
from gateway_core.config.forwarding.sources import ForwardSource


def upstream(**forward: str) -> UpstreamConfig:
    named = {name.replace("_", "-"): source for name, source in forward.items()}
    return UpstreamConfig(name="t", transport="http", url="http://t/mcp", forward=named)


def test_a_source_is_read() -> None:
    found = upstream(X_A="principal.claims.a.b?", X_B="header:X-Tracker-Key").forward_sources
    assert found == {
        "X-A": ForwardSource("claims", "a.b", optional=True),
        "X-B": ForwardSource("header", "x-tracker-key"),
    }


@pytest.mark.parametrize(
    "source",
    ["", "principal", "principal.", "principal.scopes", "principal.claims.", "header:", "header:a b", "subject"],
)
def test_another_source_is_refused(source: str) -> None:
    with pytest.raises(ValidationError, match=r"must be principal\.subject"):
        upstream(X_A=source)


@pytest.mark.parametrize(
    "header",
    [
        *("Authorization", "authorization?", "Proxy-Authorization", "Cookie", "Host", "Connection", "TE"),
        *("Transfer-Encoding", "Content-Length", "Content-Type", "Mcp-Session-Id", "Mcp-Param-X", "Origin"),
        *("Sec-WebSocket-Key", "X-Request-Id", "Traceparent"),
    ],
)
def test_a_header_for_the_gateway_is_never_passed_on(header: str) -> None:
    with pytest.raises(ValidationError, match="is never passed on"):
        upstream(X_A=f"header:{header}")


@pytest.mark.parametrize(
    "name",
    ["Host", "Cookie", "Content-Type", "Connection", "Mcp-Session-Id", "Proxy-Authorization", "Transfer-Encoding"],
)
def test_a_header_that_the_gateway_writes_is_not_replaced(name: str) -> None:
    with pytest.raises(ValidationError, match=r"writes itself|for proxies"):
        upstream(**{name: "principal.subject"})
