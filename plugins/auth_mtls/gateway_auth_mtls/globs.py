"""Patterns for the subjects of certificates.

`*` and `?` do not cross a separator of the subject's form. Otherwise `CN=*,O=Example` would also match a certificate
whose holder chose an organization such as `Evil,O=Example`, written as `O=Evil\\,O=Example`.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import re2

Kind = Literal["subject", "dns", "uri", "email"]

SEPARATORS: Final[dict[Kind, str]] = {"subject": ",+", "dns": ".", "uri": "/", "email": "@"}
"""Characters that `*` and `?` do not match, by the kind of subject."""
_WILDCARD: Final = re.compile(r"\*\*|\*|\?")


class Glob:
    """A pattern of subjects. RE2 matches it in linear time."""

    def __init__(self, pattern: str, kind: Kind) -> None:
        inside = f"[^{re.escape(SEPARATORS[kind])}]"
        wildcards = {"**": "(?s:.*)", "*": f"{inside}*", "?": inside}
        text, at = "", 0
        for found in _WILDCARD.finditer(pattern):
            text += re2.escape(pattern[at : found.start()]) + wildcards[found[0]]
            at = found.end()
        self._pattern = re2.compile(text + re2.escape(pattern[at:]))

    def matches(self, subject: str) -> bool:
        """Whether the pattern matches the whole subject."""
        return self._pattern.fullmatch(subject) is not None
