"""Hides secrets in the arguments that a question shows.

The values of keys that name a secret are hidden, and so are strings in the shape of a secret. Users see enough to
decide, and clients that keep their questions keep no secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import re2

HIDDEN: Final = "[hidden]"
MAX_LEVELS: Final = 12
"""Levels of nesting that are shown."""
MAX_SEARCHED: Final = 64 * 1024
"""Characters of a string that are searched and shown."""

_NAMES: Final = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|credential|cookie|authorization|bearer|jwt|csrf"
    r"|(?:api|access|private|signing|encryption|account|auth)[ _.-]?key|connection[ _.-]?string|seed[ _.-]?phrase"
    r"|(?:^|[^a-z])(?:auth|pin|otp|totp|cvv|cvc|dsn)$"
)
_INSIDE: Final = (
    rf"(?i)((?:{_NAMES.rpartition('|(?:^')[0]})[\w.\-]*[\"'\\]*\s*(?:=>|=|:)\s*[\"'\\]*(?:bearer\s+|basic\s+)?)"
    r"[^\s\"'\\&,;]+"
)
_SHAPES: Final = (
    r"\b(?:gh[pousr]_|github_pat_|gl(?:pat|oas|dt|rt)-|npm_|hf_|xox[abeoprs]-|xapp-|[rs]k_(?:live|test)_|whsec_|AIza"
    r"|ya29\.|hv[sbr]\.|sk-)[\w.\-]{12,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\beyJ[\w\-]{8,}(?:\.[\w\-]{4,}){1,4}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY(?s:.*)"
    r"|\b(?i:bearer|basic)\s+[\w.~+/=\-]{12,}"
)
_USERINFO: Final = r"(://[^\s/:@\"']*:)[^\s/@\"']+@"


class Hider:
    """Hides the values of keys with the name of a secret or one that matches `patterns`, and the shapes of secrets.

    Raises `ValueError` for patterns that RE2 cannot compile.
    """

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self._names = _compile("|".join(f"(?:{pattern})" for pattern in (_NAMES, *map(_checked, patterns))))

    def value(self, value: Any, level: int = 0) -> Any:
        """A copy of decoded JSON in which secrets are hidden."""
        if isinstance(value, str):
            return text(value)
        if isinstance(value, dict | list) and level >= MAX_LEVELS:
            return "[more levels]"
        if isinstance(value, list):
            return [self.value(item, level + 1) for item in value]
        if isinstance(value, dict):
            return {key: self.member(key, item, level + 1) for key, item in value.items()}
        return value

    def member(self, key: str, value: Any, level: int = 0) -> Any:
        """A copy of the value of a member of an object."""
        named = self._names.search(key.encode(errors="replace").decode()) is not None
        return HIDDEN if named and value is not None else self.value(value, level)


def text(value: str) -> str:
    """A text in which the shapes of secrets are hidden."""
    shown = value[:MAX_SEARCHED].encode(errors="replace").decode() if not value.isascii() else value[:MAX_SEARCHED]
    hidden = _USER.sub(rf"\1{HIDDEN}@", _SHAPE.sub(HIDDEN, _PAIR.sub(rf"\1{HIDDEN}", shown)))
    return hidden if len(value) <= MAX_SEARCHED else f"{hidden}…"


def _checked(pattern: str) -> str:
    if _compile(pattern).search("") is not None:
        raise ValueError(f"the pattern {pattern!r} matches every name; name a part of one")
    return pattern


def _compile(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"the pattern {pattern!r} is not valid RE2: {reason}") from None


_PAIR: Final = re2.compile(_INSIDE)
_SHAPE: Final = re2.compile(_SHAPES)
_USER: Final = re2.compile(_USERINFO)
