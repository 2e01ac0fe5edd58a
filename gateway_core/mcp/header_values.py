"""Values in headers: how what is no plain text travels in one (transports/streamable-http, Value Encoding)."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_PLAIN: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=")


def encode_header_value(value: str) -> str:
    """`value` as it goes into a header: as it is where it is printable ASCII without space at its ends and does not
    look encoded, else as base64 of its UTF-8."""
    if _PLAIN.fullmatch(value) is not None and _ENCODED.fullmatch(value) is None:
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_header_value(value: str | None) -> str | None:
    """What was encoded so. None for None, and for what nobody would have encoded so: it must never match a body."""
    found = _ENCODED.fullmatch(value) if value is not None and value.startswith("=?") else None
    if found is None:
        return value
    try:
        data = base64.b64decode(found[1], validate=True)
        text = data.decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return text if base64.b64encode(data).decode() == found[1] else None
