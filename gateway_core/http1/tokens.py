"""The `token` of RFC 9110, section 5.6.2, of which methods and the names of headers are made."""

from __future__ import annotations

import re
from typing import Final

CHARACTERS: Final = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
"""Its characters, for a class of a regular expression."""
TOKEN: Final = rf"[{CHARACTERS}]+"
"""A regular expression."""
_TOKEN: Final = re.compile(TOKEN)


def is_token(text: str) -> bool:
    """Whether a text may be the name of a header."""
    return _TOKEN.fullmatch(text) is not None
