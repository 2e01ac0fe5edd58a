"""Half surrogate pairs in JSON: servers make them by cutting a text inside an emoji, and no text can hold them."""

from __future__ import annotations

import re
from typing import Final

_BACKSLASH: Final = ord("\\")
_SURROGATE: Final = re.compile(rb"\\u[dD]")
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def mended(data: bytes) -> bytes:
    """JSON with every half surrogate pair in its strings replaced by U+FFFD."""
    return _ESCAPE.sub(_whole, data) if has_half_surrogate(data) else data


def has_half_surrogate(data: bytes) -> bool:
    """Whether there may be one: whole pairs look alike."""
    return _BACKSLASH in data and _SURROGATE.search(data) is not None


def _whole(escape: re.Match[bytes]) -> bytes:
    """An escape sequence as it is, but half a surrogate pair as U+FFFD."""
    return b"\\ufffd" if escape["half"] else escape.group()
