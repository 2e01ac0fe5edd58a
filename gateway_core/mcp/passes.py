"""Checks and repairs in C over the bytes of a message: UTF-8, white space, lone surrogates, depth."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Raw

from gateway_core.errors import INVALID_REQUEST, PARSE_ERROR, RpcError
from gateway_core.patterns import compiled

MAX_DEPTH: Final = 64
"""Maximum nesting of arrays and objects."""
_NEWLINE: Final = ord("\n")
_RETURN: Final = ord("\r")
_BACKSLASH: Final = ord("\\")
_BRACE: Final = ord("{")
_BRACKET: Final = ord("[")
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_BLOCKS: Final = msgspec.json.Decoder(list[dict[str, Raw]])
_SMALL: Final = 1 << 16
"""Bytes up to which copying a message costs less than a loop in Python that avoids it."""


def is_spaced(data: bytes) -> bool:
    """Whether there are line breaks, or a space after the first name, as Python's `json.dumps` writes it."""
    return data.find(b'": ', 0, 24) >= 0 or _NEWLINE in data or _RETURN in data


def require_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        not_json(error)


def not_json(error: Exception) -> NoReturn:
    raise RpcError.of_gateway(PARSE_ERROR, f"not valid JSON: {error}") from None


def too_deep() -> NoReturn:
    raise RpcError.of_gateway(INVALID_REQUEST, f"nested deeper than {MAX_DEPTH} levels") from None


def without_spaces(data: bytes, *, repair: bool = False) -> bytes:
    """The same JSON without white space between tokens. `repair`: replace lone surrogates by U+FFFD.

    Raises `RpcError` (`PARSE_ERROR`, `INVALID_REQUEST`).
    """
    try:
        return msgspec.json.format(data, indent=-1)
    except RecursionError:
        too_deep()
    except msgspec.DecodeError as error:
        repaired = _with_whole_surrogates(data) if repair else data
        if repaired is not data:
            return without_spaces(repaired)
        not_json(error)


# Lone surrogates

MAX_UNITS: Final = 200_000
"""Maximum `\\u` escapes of a message whose lone surrogates are replaced. Each takes some 0.2 microseconds."""
_PLACEHOLDER: Final = b"\0\0"
"""Replaces an escaped backslash; valid JSON contains no NUL."""
_HALF: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def _with_whole_surrogates(data: bytes) -> bytes:
    """JSON with each lone surrogate in its strings replaced by U+FFFD; the same object if there is none, or if the JSON
    has more than `MAX_UNITS` escapes to look at."""
    if 0 in data or data.count(b"\\u") > MAX_UNITS:
        return data
    repaired, count = _HALF.subn(rb"\\ufffd", data.replace(rb"\\", _PLACEHOLDER))
    return repaired.replace(_PLACEHOLDER, rb"\\") if count else data


# Depth

_QUOTE: Final = ord('"')
_CUT: Final = ord("n")
_OTHER: Final = bytes(byte for byte in range(256) if byte not in b'[]{}"\\bfnrtu/')
_CODES: Final = bytes.maketrans(b'"{}bfnrtu/', b"n[]ttttttt")
"""Quotes become `n`, so an escaped quote becomes a line break. Other escape characters become `t`."""
_NOT_OUTSIDE: Final = bytes(byte for byte in range(256) if byte not in b"[]n")


def check_depth(data: bytes, levels: int = MAX_DEPTH) -> None:
    """Raise `RpcError` if brackets outside strings nest deeper than `levels`. `data` must be valid JSON."""
    if _has_few_brackets(data, levels):
        return
    if _shallow(levels).fullmatch(_outside_strings(data)) is None:
        too_deep()


@cache
def _shallow(levels: int) -> Any:
    """Matches square brackets that nest at most `levels` deep.

    RE2 runs it as an automaton with one state per level: one pass for any nesting.
    """
    inner = ""
    for _ in range(levels):
        inner = rf"(?:\[{inner}\])*"
    return compiled(inner.encode())


def check_depth_of_members(data: bytes, members: dict[str, Raw]) -> None:
    """Raise `RpcError` if a message nests too deeply. `members`: those of its `params` or `result`.

    Skips string values of arguments and of content blocks, because these usually contain most of the brackets.
    """
    if len(data) > _SMALL:
        check_depth(data)
        return
    if len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) <= MAX_DEPTH:
        return
    for raw in members.values():
        value = bytes(raw)
        try:
            if value[:1] == b"{":
                _check_values(_OBJECT.decode(value), MAX_DEPTH - 3)
            elif value[:2] == b"[{":
                for block in _BLOCKS.decode(value):
                    _check_values(block, MAX_DEPTH - 4)
            elif value[:1] == b"[":
                check_depth(value, MAX_DEPTH - 2)
        except msgspec.ValidationError:
            check_depth(value, MAX_DEPTH - 2)


def _check_values(members: dict[str, Raw], levels: int) -> None:
    for raw in members.values():
        if len(raw) > 2 * levels:
            value = bytes(raw)
            if value[:1] != b'"':
                check_depth(value, levels)


def _has_few_brackets(data: bytes, left: int) -> bool:
    """Whether there are at most `left` opening brackets, inside strings or outside."""
    if len(data) <= _SMALL:
        # Not `count`, which examines each byte: most texts have few brackets to jump to.
        return len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) <= left
    for bracket in (_BRACE, _BRACKET):
        at = data.find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return False
            at = data.find(bracket, at + 1)
    return True


def _outside_strings(data: bytes) -> bytes:
    """The brackets outside strings, with braces replaced by square brackets.

    Strings end at unescaped quotes. The codec `unicode_escape` removes escaped quotes in one pass.
    """
    codes = data.translate(_CODES, _OTHER)
    if _BACKSLASH in codes:
        codes = codes.decode("unicode_escape").encode("latin-1")
    codes = codes.translate(None, _NOT_OUTSIDE).replace(b"nn", b"")  # two quotes with no bracket between them
    return b"".join(codes.split(b"n")[::2]) if _CUT in codes else codes
