"""How much an expression may read, so that agents cannot make its evaluation expensive.

The library ends loops after 10,000 steps, but a step may be expensive itself: a search for a text that the agent chose
takes time by the product of both lengths, and RE2 may take time by the product of text and pattern. It also compiles a
pattern at each use. With these bounds, an evaluation takes tenths of a second at worst.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import re2

MAX_VALUES: Final = 1000
"""Maximum number of values in the arguments that an expression names."""
MAX_CHARACTERS: Final = 1024 * 1024
"""Maximum number of characters in them."""
MAX_LOOP_CHARACTERS: Final = 16 * 1024
"""The same for an expression with a loop, or with a search for a text that is not written in it."""
MAX_DEEP_CHARACTERS: Final = 2 * 1024
"""The same for an expression with loops within loops, or with a loop and such a search."""
MAX_PATTERN_VALUES: Final = 100
"""Maximum number of values for an expression with a loop and a pattern."""
MIN_PATTERN_CHARACTERS: Final = 256
"""A pattern that is so large that it could read less is refused."""
_WORK: Final = 5_000_000
"""Characters times instructions of the pattern, for all uses of it: a tenth of a second at worst."""
_STRING: Final = (
    r"""[rR][bB]?(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"]*"|'[^']*')"""
    r"""|[bB]?(?:\"{3}(?:[^\\]|\\.)*?\"{3}|'{3}(?:[^\\]|\\.)*?'{3}|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
)
_TOKENS: Final = re.compile(rf"{_STRING}|//[^\n]*", re.DOTALL)
_QUADRATIC: Final = re.compile(r"\.\s*(map|filter)\s*\(")
_FOREIGN_PATTERN: Final = re.compile(r"\bmatches\s*\((?!\s*\"\"\s*\))")
_PATTERN_AHEAD: Final = re.compile(r"\bmatches\s*\(\s*\Z")
_LOOP: Final = re.compile(r"\.\s*(all|exists|exists_one)\s*\(")
_FOREIGN_SEARCH: Final = re.compile(r"\bcontains\s*\((?!\s*\"\"\s*\))")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the arguments that an expression names."""

    values: int
    characters: int


def code_of(source: str) -> str:
    """The expression without its comments, and with `""` for each text."""
    return _TOKENS.sub(lambda found: "" if found[0].startswith("//") else '""', source)


def check(code: str) -> None:
    """Raise `ValueError` for what no bound makes cheap. `code`: see `code_of`."""
    if macro := _QUADRATIC.search(code):
        raise ValueError(f"{macro[1]} is not available, because its cost is quadratic; use exists or all")
    if _FOREIGN_PATTERN.search(code):
        raise ValueError('matches needs a pattern that is written in the rule: x.matches("…")')
    if "matches" in code and len(_LOOP.findall(code)) > 1:
        raise ValueError("matches is available in one loop, and not in an expression with several")


def bounds_of(source: str, code: str) -> Bounds:
    """The bounds for a valid expression. Raises `ValueError` for a pattern that is too large."""
    loops, searches = len(_LOOP.findall(code)), _FOREIGN_SEARCH.search(code) is not None
    characters = (MAX_CHARACTERS, MAX_LOOP_CHARACTERS, MAX_DEEP_CHARACTERS)[min(2, loops + searches)]
    instructions = sum(map(_instructions, _patterns(source)))
    if not instructions:
        return Bounds(MAX_VALUES, characters)
    values = MAX_PATTERN_VALUES if loops else MAX_VALUES
    most = _WORK // instructions // (values if loops else 1)
    if most < MIN_PATTERN_CHARACTERS:
        where = " in a loop" if loops else ""
        raise ValueError(f"the pattern of matches is too large{where}: use smaller repetitions, and classes of ASCII")
    return Bounds(values, min(characters, most))


def _patterns(source: str) -> Iterator[str]:
    """The literals that are patterns of `matches`."""
    before, at = "", 0
    for found in _TOKENS.finditer(source):
        before += source[at : found.start()]
        at = found.end()
        if found[0].startswith("//"):
            continue
        if _PATTERN_AHEAD.search(before):
            yield found[0]
        before += '""'


def _instructions(literal: str) -> int:
    """The size of a pattern's program. Raises `ValueError` if it is not a pattern."""
    try:
        text = ast.literal_eval(literal.replace(r"\?", "?").replace(r"\`", "`"))  # else the same escapes as in CEL
        return max(1, int(re2.compile(text).programsize))
    except (SyntaxError, ValueError, TypeError, re2.error):
        raise ValueError("the pattern of matches is not valid (RE2)") from None
