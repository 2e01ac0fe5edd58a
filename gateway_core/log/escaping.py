"""Terminal output: escaping of untrusted text, and the choice of colours."""

from __future__ import annotations

import os
from typing import Final, TextIO


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal with colours and `NO_COLOR` is unset (no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_LONG: Final = 64
"""Length in characters from which a check of the bytes is faster."""


def escape(text: str) -> str:
    """`text` in one line, safe for a terminal: everything except printable characters and spaces is escaped."""
    if len(text) > _LONG and text.isascii():
        if not text.encode().translate(None, _PRINTABLE):
            return text
    elif text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
