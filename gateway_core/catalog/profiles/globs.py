"""Globs: `*` stands for any characters, `?` for one. RE2 matches them, so a hostile name costs no backtracking."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import re2


class Globs:
    """A list of globs. Those after `!` hide what they match; without others, everything else is visible."""

    __slots__ = ("_hidden", "_visible", "given")

    def __init__(self, globs: Sequence[str]) -> None:
        self.given = tuple(globs)
        hidden = [glob[1:] for glob in globs if glob.startswith("!")]
        visible = [glob for glob in globs if not glob.startswith("!")]
        self._hidden = _compiled(hidden)
        self._visible = _compiled(visible or ["*"] if globs else [])

    def shows(self, texts: Sequence[str]) -> bool:
        """Whether a glob matches any of these names of one thing, and none hides it."""
        return not self.hides(texts) and any(self._visible.fullmatch(text) is not None for text in texts)

    def hides(self, texts: Iterable[str]) -> bool:
        """Whether a glob after `!` matches any of these names."""
        return any(self._hidden.fullmatch(text) is not None for text in texts)


def matching(glob: str, texts: Iterable[str]) -> bool:
    """Whether a glob, without its `!`, matches any of these names."""
    pattern = _compiled([glob.removeprefix("!")])
    return any(pattern.fullmatch(text) is not None for text in texts)


def _compiled(globs: Sequence[str]) -> Any:
    return re2.compile("(?s)" + ("|".join(map(_expression, globs)) if globs else "[^\\s\\S]"))


def _expression(glob: str) -> str:
    return "".join(".*" if char == "*" else "." if char == "?" else re2.escape(char) for char in glob)
