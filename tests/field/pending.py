"""What the gateway does not do yet: the names of odd servers and clients, or how they begin, and the kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest

SERVERS: Final[Mapping[str, str]] = {
    "lost-session-": "a session that is lost in other ways than 404",
    "get-stream-404": "GET answered with 404",
    "get-stream-error-in-json": "GET answered with 404",
    "encoding-gzip": "compressed answers",
    "encoding-x-gzip": "compressed answers",
    "encoding-upper-case": "compressed answers",
    "encoding-deflate": "compressed answers",
    "encoding-utf-8": "compressed answers",
    "encoding-none": "compressed answers",
    "encoding-no-trailer": "compressed answers",
    "encoding-twice": "compressed answers",
    "cookies-": "cookies of a load balancer",
    "redirects-": "redirects within the same origin",
    "ids-": "ids that come back as text",
    "almost-json-": "JSON that is almost JSON",
    "notifications-": "notifications with null",
    "headers-201": "HTTP 201 with an answer",
}
CLIENTS: Final[Mapping[str, str]] = {
    "params-": "params that are null or a list",
    "id-null-": "notifications with null",
    "batch-": "batches of 2025-03-26",
    "trailing-slash": "/mcp/ with a slash",
    "stale-header-": "a stale session header on initialize",
    "empty-session": "an empty session header",
    "empty-line": "an empty line before a request",
    "browser": "a page for browsers",
    "preflight": "CORS",
}


def is_pending(name: str) -> bool:
    """Whether the gateway does not work with a server yet."""
    return name.startswith(tuple(SERVERS))


def parameters(odd: Iterable[Any], pending: Mapping[str, str]) -> list[Any]:
    """Parameters of a test, those that are pending marked so."""

    def marks(name: str) -> list[pytest.MarkDecorator]:
        reasons = [reason for start, reason in pending.items() if name.startswith(start)]
        return [pytest.mark.xfail(reason=reasons[0], strict=False)] if reasons else []

    return [pytest.param(one, id=str(one), marks=marks(str(one))) for one in odd]
