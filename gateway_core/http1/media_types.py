"""The media types of messages (IANA)."""

from __future__ import annotations

from typing import Final

JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
"""Server-sent events (WHATWG HTML, Server-sent events)."""
