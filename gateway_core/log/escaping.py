"""Text of strangers on a line of ours."""

from __future__ import annotations


def escape(text: str) -> str:
    """`text` in one line that can do nothing to a terminal: all but printable characters and spaces escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    short = {9: "\\t", 10: "\\n", 13: "\\r"}.get(code)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
