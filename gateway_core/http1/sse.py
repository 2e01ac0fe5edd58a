"""Server-sent events as bytes (WHATWG HTML, Server-sent events)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EVENT_STREAM: Final = "text/event-stream"
SSE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Type": EVENT_STREAM,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""The headers of a stream, which tell proxies not to hold events back."""
COMMENT: Final = b": keep-alive\n\n"
"""What clients ignore."""


def event(data: bytes, name: str = "message") -> bytes:
    """One event. `data` contains no line end, so it is one `data` line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
