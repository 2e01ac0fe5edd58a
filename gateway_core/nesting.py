"""How deep JSON nests: some readers of it recurse, and end with their stack."""

from __future__ import annotations

import re
from typing import Final

from gateway_core.errors import INVALID_REQUEST, RpcError

MAX_DEPTH: Final = 64
"""Deepest nesting of arrays and objects that is accepted."""
_STRINGS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SMALL: Final = 2048
"""Bytes up to which brackets are counted."""
_BRACE: Final = ord("{")
_BRACKET: Final = ord("[")
_NOT_BRACKETS: Final = bytes(b for b in range(256) if b not in b"[]{}")


def check_depth(data: bytes) -> None:
    """Raise if brackets nest deeper than `MAX_DEPTH`. `data` is known to be valid JSON."""
    if has_few_brackets(data):
        return
    brackets = _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):  # each pass removes at least the innermost level, at the speed of C
        brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
        if not brackets:
            return
    raise RpcError.of_gateway(INVALID_REQUEST, f"nested deeper than {MAX_DEPTH} levels")


def has_few_brackets(data: bytes) -> bool:
    """Whether there are too few brackets, inside of strings or not, for more than `MAX_DEPTH` levels."""
    if len(data) <= _SMALL:
        # `count` would look at each byte; this jumps from bracket to bracket (`memchr`), of which there are few.
        return len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) <= MAX_DEPTH
    left = MAX_DEPTH
    for bracket in (_BRACE, _BRACKET):  # few in much text are found many times faster than all of them are counted
        at = data.find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = data.find(bracket, at + 1)
    return True
