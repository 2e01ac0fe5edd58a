"""What the gateway does not do yet: how the names of odd servers begin, and the kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import pytest

SERVERS: Final[Mapping[str, str]] = {
    "lost-session-400": "a session that is lost in other ways than 404",
    "lost-session-401-error": "a session that is lost in other ways than 404",
    "lost-session-410": "a session that is lost in other ways than 404",
    "lost-session-200": "a session that is lost in other ways than 404",
    "lost-session-not": "a session that is lost in other ways than 404",
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
    "redirects-307": "redirects within the same origin",
    "redirects-308": "redirects within the same origin",
    "redirects-relative": "redirects within the same origin",
    "redirects-absolute": "redirects within the same origin",
    "redirects-query": "redirects within the same origin",
    "ids-text": "ids that come back as text",
    "almost-json-nan": "JSON that is almost JSON",
    "almost-json-control": "JSON that is almost JSON",
    "almost-json-comma": "JSON that is almost JSON",
    "almost-json-quotes": "JSON that is almost JSON",
    "almost-json-cut": "JSON that is almost JSON",
    "headers-201": "HTTP 201 with an answer",
}


def is_pending(name: str) -> bool:
    """Whether the gateway does not work with a server yet."""
    return name.startswith(tuple(SERVERS))


def parameters(odd: Iterable[Any]) -> list[Any]:
    """Parameters of a test, those that are pending marked so."""

    def marks(name: str) -> list[pytest.MarkDecorator]:
        reasons = [reason for start, reason in SERVERS.items() if name.startswith(start)]
        return [pytest.mark.xfail(reason=reasons[0], strict=False)] if reasons else []

    return [pytest.param(one, id=str(one), marks=marks(str(one))) for one in odd]
