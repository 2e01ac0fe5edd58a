"""Globs: `*` stands for any characters, `?` for one; everything else stands for itself, and case counts.

RE2 matches them in linear time, so that a hostile name costs no backtracking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from gateway_core.patterns import compiled, escaped

MAX_GLOBS: Final = 1024
"""Maximum number of globs in one list."""
MAX_LENGTH: Final = 1024
"""Maximum characters of a glob."""
MAX_CHARACTERS: Final = 64 * 1024
"""Maximum characters of all globs of a list together."""
MAX_MEMORY: Final = 64 * 1024 * 1024
"""Bytes that RE2 may use for a list; usual ones take less than a megabyte."""
_WILDCARD: Final = re.compile(r"\*+|\?")


class Globs(tuple[str, ...]):
    """A list of globs, compiled once. A name matches if any of them matches the whole of it.

    As the type of a setting it takes a list of texts. Raises `ValueError` for an empty glob, and for too many or too
    long ones.
    """

    def __new__(cls, globs: Iterable[str] = (), *, separators: str = "") -> Self:
        """`separators`: characters that `*` and `?` do not match. `**` matches them, too."""
        if isinstance(globs, str):
            raise TypeError("globs are a list of texts, not one text")
        return super().__new__(cls, globs)

    def __init__(self, globs: Iterable[str] = (), *, separators: str = "") -> None:
        if len(self) > MAX_GLOBS:
            raise ValueError(f"{len(self)} globs are too many; the limit is {MAX_GLOBS}")
        for glob in self:
            if not 0 < len(glob) <= MAX_LENGTH:
                raise ValueError(f"a glob must have 1 to {MAX_LENGTH} characters")
        self._separators = separators
        wild = [glob for glob in self if _WILDCARD.search(glob) is not None]
        if sum(map(len, wild)) > MAX_CHARACTERS:
            raise ValueError(f"the globs with wildcards have more than {MAX_CHARACTERS} characters together")
        self._all = "**" in self or ("*" in self and not separators)
        self._exact = frozenset(self).difference(wild)
        self._pattern: Any = None if self._all or not wild else _compiled(wild, separators)

    def matches(self, name: str) -> bool:
        """Whether any of the globs matches the whole name."""
        if self._all or name in self._exact:
            return True
        pattern = self._pattern
        if pattern is None:
            return False
        if not name.isascii():  # a lone surrogate is no character, so that only wildcards match it
            name = name.encode(errors="replace").decode()
        return pattern.fullmatch(name) is not None

    def covers(self, glob: str) -> bool:
        """Whether every name that another glob of the same kind matches is surely matched by one of these."""
        if self._all or glob in self:
            return True
        if _WILDCARD.search(glob) is None:
            return self.matches(glob)
        stems = (one.rstrip("*") for one in self if one[-1] == "*" and not self._separators)
        return any(_WILDCARD.search(stem) is None and glob.startswith(stem) for stem in stems)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, handler(tuple[str, ...]))


def _compiled(globs: Iterable[str], separators: str) -> Any:
    one = f"[^{escaped(separators)}]" if separators else "."
    pattern = "|".join(_expression(glob, one) for glob in globs)
    try:
        return compiled(pattern, dot_matches_all=True, max_memory=MAX_MEMORY)
    except ValueError:
        raise ValueError("the globs are too complex together; write fewer or simpler ones") from None


def _expression(glob: str, one: str) -> str:
    found, at = list[str](), 0
    for wildcard in _WILDCARD.finditer(glob):
        any_number = ".*" if len(wildcard[0]) > 1 else f"{one}*"
        found += (escaped(glob[at : wildcard.start()]), one if wildcard[0] == "?" else any_number)
        at = wildcard.end()
    return "".join((*found, escaped(glob[at:])))
