"""Globs: `*` stands for any characters, `?` for one. RE2 matches them, so a hostile name costs no backtracking."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import re2

_WILD: Final = re.compile(r"[*?]")
_VARIABLE: Final = re.compile(r"\{[^{}]*\}")


class Globs:
    """A list of globs. A text matches if any of them matches the whole text."""

    __slots__ = ("_all", "_exact", "_pattern", "globs")

    def __init__(self, globs: Sequence[str]) -> None:
        self.globs = tuple(globs)
        self._all = "*" in globs
        self._exact = frozenset(glob for glob in globs if _WILD.search(glob) is None)
        wild = [glob for glob in globs if _WILD.search(glob) is not None]
        self._pattern: Any = re2.compile("(?s)" + "|".join(map(_expression, wild))) if wild else None

    def matches(self, text: str) -> bool:
        if self._all or text in self._exact:
            return True
        return self._pattern is not None and self._pattern.fullmatch(text) is not None

    def covers(self, template: str) -> bool:
        """Whether surely every URI of a URI template matches (RFC 6570)."""
        if self._all or template in self._exact:
            return True
        literal = _literal_begin(template)
        return any(
            glob[-1:] == "*" and _WILD.search(glob[:-1]) is None and literal.startswith(glob[:-1])
            for glob in self.globs
        )

    def may_match(self, template: str) -> bool:
        """Whether a URI of a URI template may match; False only if surely none does."""
        begin, end = _literal_begin(template), _literal_end(template)
        return any(_agree(begin, end, glob) for glob in self.globs)


def _expression(glob: str) -> str:
    return "".join(".*" if char == "*" else "." if char == "?" else re2.escape(char) for char in glob)


def _literal_begin(template: str) -> str:
    return _VARIABLE.split(template, maxsplit=1)[0]


def _literal_end(template: str) -> str:
    return _VARIABLE.split(template)[-1]


def _agree(begin: str, end: str, glob: str) -> bool:
    """Whether the literal begin and end of a template and those of a glob do not contradict each other."""
    parts = _WILD.split(glob)
    first, last = parts[0], parts[-1]
    return (begin.startswith(first) or first.startswith(begin)) and (end.endswith(last) or last.endswith(end))
