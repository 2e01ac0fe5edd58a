"""Terminal output: escaping of untrusted text, and the choice of colours."""

from __future__ import annotations

import os
from typing import Final, TextIO


def wants_colour(stream: TextIO) -> bool:
    """Whether to write colours to `stream`: if it is a terminal that has some.

    `NO_COLOR` (no-color.org) and `FORCE_COLOR` (force-color.org) take precedence, in this order; empty ones count as
    unset, and so does `FORCE_COLOR=0`.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


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
