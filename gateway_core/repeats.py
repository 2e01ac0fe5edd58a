"""Responses that readers take for different ones: of a member given twice some keep the first, others the last."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_ABSENT: Final = (b"", b"null")
_VERSION: Final = Raw(b'"2.0"')
_SHORTEST: Final = len('"":1,')
"""Bytes of the shortest member."""
_SPACE: Final = (b" ", b"\n", b"\r", b"\t")


def ambiguous(data: bytes, number: Raw, params: Raw, result: Raw, error: Raw) -> str:
    """What makes readers of a response see different ones; empty for nothing.

    `data` is valid JSON, with `"jsonrpc":"2.0"` in it; the others are its members, the absent ones as empty `Raw`.
    """
    known = {"jsonrpc": _VERSION, "id": number, "params": params, "result": result, "error": error}
    if _repeats(data, {name: value for name, value in known.items() if len(value)}):
        return "a response with a member given twice, or written with escapes"
    if len(result) and len(error) and bytes(result) not in _ABSENT and bytes(error) not in _ABSENT:
        return "a response with both a result and an error"
    return ""


def _repeats(data: bytes, known: dict[str, Raw]) -> bool:
    """Whether a member is given twice, or its name is written with escapes.

    Nothing is compared: a member given twice needs more room than the members and the white space between them have.
    """
    if len(data) - _size(known) < _SHORTEST:
        return False
    members = _MEMBERS.decode(data)
    surplus = len(data) - _size(members)
    return surplus >= _SHORTEST and surplus != _spaces(data) - sum(map(_spaces, members.values()))


def _size(members: dict[str, Raw]) -> int:
    """Bytes of an object with these members as the shortest JSON."""
    names = sum(len(name) if name.isascii() else len(name.encode()) for name in members)
    return names + sum(map(len, members.values())) + 4 * len(members) + (1 if members else 2)


def _spaces(data: bytes | Raw) -> int:
    text = bytes(data)
    return sum(text.count(space) for space in _SPACE)
