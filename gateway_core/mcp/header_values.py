"""Encoding of text that is not plain ASCII in headers (transports/streamable-http, Value Encoding)."""

from __future__ import annotations

import base64
import re
from typing import Final

_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=")


def encode_header_value(value: str) -> str:
    """Encode `value` as base64 of its UTF-8, unless it is printable ASCII without outer spaces and does not look
    encoded."""
    if _PLAIN.fullmatch(value) is not None and _ENCODED.fullmatch(value) is None:
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header_value(value: str | None) -> str | None:
    """Decode a header's value. None for None, and for malformed base64, which must never match a body."""
    found = _ENCODED.fullmatch(value) if value is not None and value.startswith("=?") else None
    if found is None:
        return value
    try:
        data = base64.b64decode(found[1], validate=True)
        text = data.decode()
    except ValueError:  # not ASCII, not base64, not UTF-8
        return None
    return text if base64.b64encode(data).decode() == found[1] else None
