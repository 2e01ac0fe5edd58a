"""Serialises server-sent events (WHATWG HTML, Server-sent events)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway_core.http1.media_types import EVENT_STREAM

SSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""Headers of a stream; they tell proxies not to buffer events."""
COMMENT: Final = b": keep-alive\n\n"
"""A keep-alive comment, which clients ignore."""


def event(data: bytes, name: str = "message") -> bytes:
    """One event. `data` contains no line end, so it is one `data` line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
