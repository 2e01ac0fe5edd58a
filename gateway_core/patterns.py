"""Regular expressions of RE2. It does not backtrack: for any pattern, the time of a search is linear in the text.

The only module that compiles patterns, so that RE2 never writes to stderr and invalid ones raise `ValueError`. RE2 is
imported by the first pattern: most commands need none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

MAX_PATTERNS: Final = 64
"""Maximum number of patterns in one list."""
MAX_LENGTH: Final = 1024
"""Maximum characters of a pattern in a list."""


class WrongPattern(ValueError):
    """A pattern of a list cannot be used. `what` says why without quoting it, and `reason` is RE2's own, or empty."""

    def __init__(self, pattern: str, what: str, reason: str = "") -> None:
        super().__init__(f"the pattern {pattern!r} {what}" + (f": {reason}" if reason else ""))
        self.what = what
        self.reason = reason


class Patterns(tuple[str, ...]):
    """A list of RE2 patterns, compiled once. A text matches if any of them matches a part of it; case is ignored.

    As the type of a setting it takes a list of texts. Raises `ValueError` for a pattern that is not valid or matches
    every text, and for too many or too long ones.
    """

    def __new__(cls, patterns: Iterable[str] = ()) -> Self:
        if isinstance(patterns, str):
            raise TypeError("patterns are a list of texts, not one text")
        return super().__new__(cls, patterns)

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        if len(self) > MAX_PATTERNS:
            raise ValueError(f"{len(self)} patterns are too many; the limit is {MAX_PATTERNS}")
        for pattern in self:
            check(pattern)
        joined = "|".join(f"(?:{pattern})" for pattern in self)
        try:
            self._pattern: Any = compiled(joined, ignore_case=True) if self else None
        except ValueError:
            raise ValueError("the patterns are too complex together; write fewer or simpler ones") from None

    def matches(self, text: str) -> bool:
        """Whether any of the patterns matches a part of the text."""
        if self._pattern is None:
            return False
        if not text.isascii():  # a lone surrogate is no character, so that only wildcards match it
            text = text.encode(errors="replace").decode()
        return self._pattern.search(text) is not None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415 - only settings need it

        return core_schema.no_info_after_validator_function(cls, handler(tuple[str, ...]))


def compiled(
    pattern: str | bytes,
    *,
    ignore_case: bool = False,
    dot_matches_all: bool = False,
    is_latin: bool = False,
    max_memory: int | None = None,
) -> Any:
    """The compiled pattern, for texts if `pattern` is one, else for bytes.

    `dot_matches_all`: `.` also matches line breaks. `is_latin`: bytes are Latin-1, not UTF-8. `max_memory`: bytes for
    the pattern and its states; RE2 takes 8 MiB. Raises `ValueError` with RE2's reason.
    """
    import re2  # noqa: PLC0415 - see above

    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    options.dot_nl = dot_matches_all
    if is_latin:
        options.encoding = re2.Options.Encoding.LATIN1
    if max_memory is not None:
        options.max_mem = max_memory
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0]
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None


def escaped(text: str) -> str:
    """A pattern that matches exactly this text."""
    import re2  # noqa: PLC0415 - see above

    found: str = re2.escape(text)
    return found


def check(pattern: str) -> None:
    """Raise `WrongPattern` for a pattern that cannot be in a list of patterns."""
    if len(pattern) > MAX_LENGTH:
        raise WrongPattern(f"{pattern[:20]}…", f"has {len(pattern)} characters; the limit is {MAX_LENGTH}")
    try:
        matches_all = compiled(pattern).search("") is not None
    except ValueError as error:
        what = "is not valid RE2, which has no look-around and no back-references"
        raise WrongPattern(pattern, what, str(error)) from None
    try:
        compiled(f"(?:{pattern})", ignore_case=True)
    except ValueError as error:  # such as \Q without \E, which also quotes what follows the pattern
        raise WrongPattern(pattern, "cannot be part of a list", str(error)) from None
    if matches_all:
        raise WrongPattern(pattern, "matches everything; name a part of what is to match")
