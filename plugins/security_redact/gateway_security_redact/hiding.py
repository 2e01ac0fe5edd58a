"""Find secrets in decoded JSON and in text, and put `[REDACTED]` in their place.

A pattern names a **key**. In JSON the whole value of a matching key is hidden, and so is `value` in
`{"name": "password", "value": …}`; strings that hold JSON are read as JSON too. In text, what follows a matching key
and `=` or `:` is hidden, up to the closing quote or the next blank. Where it is unclear how far a secret goes,
rather more is hidden than less.

RE2 does not backtrack: the time is linear in the text, whatever the patterns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import re2

REDACTED: Final = "[REDACTED]"
_REDACTED: Final = REDACTED.encode()
MAX_LEVELS: Final = 4
"""How deep JSON in strings in JSON is read; what is deeper is hidden."""
_SHORT: Final = 64
"""Characters up to which a key is remembered: the same few come again and again."""

_BACKSLASH: Final = ord("\\")
_LOOKS_AROUND: Final = re.compile(r"[\^$]|\\[AzbB]")
"""What in a pattern may make a match depend on what stands around it."""

_SEPARATOR: Final = r"""\\*["']?\s*(?:=>|:=|==?|:)\s*"""
_VALUE: Final = (
    r"""(?:(?:bearer|basic|digest|token)\s+)?"""  # Authorization: Bearer …
    r"""(?:\\+"[^"]*(?:"|$)"""  # \"escaped quotes\", of JSON in a string
    r"""|"(?:[^"\\]|\\.)*\\?(?:"|$)"""
    r"""|'(?:[^'\\]|\\.)*\\?(?:'|$)"""
    r"""|\[[^\]]*(?:\]|$)|\{[^}]*(?:\}|$)"""
    r"""|[^\s&;"'<>]+)"""
)


class Hider:
    """Hides the values of what `patterns` name. Raises `ValueError` for patterns that RE2 cannot compile."""

    def __init__(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            if _compile(pattern).search("") is not None:
                raise ValueError(f"the pattern {pattern!r} matches every key; name a part of a key")
        whole = "|".join(f"(?:{pattern})" for pattern in patterns)
        bare = [_bare(pattern) for pattern in patterns]
        inside = "|".join(_inside(*parts) for parts in bare)
        self._keys = _compile(f"(?i){whole}") if patterns else None
        self._known = lru_cache(maxsize=1024)(self._looked_at)
        # On bytes: for text, RE2's wrapper counts characters anew for each place that it finds.
        self._text = _compile(f"(?is)((?:{inside}){_SEPARATOR}){_VALUE}".encode()) if patterns else None
        anywhere = "|".join(f"(?:{body})" for body, _, _ in bare)
        can_clear = bool(patterns) and not any(_LOOKS_AROUND.search(body) for body, _, _ in bare)
        self._anywhere = _compile(f"(?i){anywhere}".encode()) if can_clear else None

    def clears(self, raw: bytes) -> bool:
        """Whether this JSON certainly holds no secret, as one look at its bytes tells.

        Without escapes, every string in it stands in it as it is; so where no key is found anywhere, none is in any
        string. Nothing is cleared where a pattern might see other things around a string than its end.
        """
        if self._text is None:
            return True
        if self._anywhere is None or _BACKSLASH in raw or self._anywhere.search(raw) is not None:
            return False
        try:
            raw.decode()
        except UnicodeDecodeError:
            return False
        return True

    def value(self, value: Any, level: int = 0) -> Any:
        """A copy of decoded JSON with secrets hidden; the very same object where there are none."""
        if isinstance(value, str):
            return self.text(value, level)
        if isinstance(value, list):
            items = [self.value(item, level) for item in value]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if isinstance(value, dict):
            return self._members(value, level)
        return value

    def text(self, text: str, level: int = 0) -> str:
        """The same for text."""
        if self._text is None or not ("=" in text or ":" in text):
            return text
        if text.lstrip()[:1] in {"{", "["}:
            try:
                decoded = json.loads(text, object_pairs_hook=object_once)
                hidden = REDACTED if level >= MAX_LEVELS else self.value(decoded, level + 1)
            except ValueError:
                pass  # text that only looks like JSON, or JSON that shows each reader something else
            except RecursionError:
                return REDACTED
            else:
                return text if hidden is decoded else json.dumps(hidden, ensure_ascii=False)
        data = text.encode(errors="replace")
        pieces: list[bytes] = []
        kept = 0
        for match in self._text.finditer(data):
            pieces += (data[kept : match.end(1)], _REDACTED)
            kept = match.end()
        return b"".join((*pieces, data[kept:])).decode() if pieces else text

    def _members(self, members: dict[str, Any], level: int) -> dict[str, Any]:
        label = members.get("name", members.get("key"))
        labelled = isinstance(label, str) and self._key(label, level)[0]
        hidden, same = {}, True
        for key, value in members.items():
            is_secret, shown_key = self._key(key, level)
            shown = REDACTED if is_secret or (labelled and key == "value") else self.value(value, level)
            hidden[shown_key] = shown
            same = same and shown is value and shown_key == key
        return members if same else hidden

    def _key(self, key: str, level: int) -> tuple[bool, str]:
        """Whether the value of this key is a secret, and the key with secrets hidden."""
        return self._known(key, level) if len(key) <= _SHORT else self._looked_at(key, level)

    def _looked_at(self, key: str, level: int) -> tuple[bool, str]:
        is_secret = self._keys is not None and self._keys.search(_encodable(key)) is not None
        return is_secret, self.text(key, level)


def object_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these members. Raises `ValueError` where one is given twice: readers differ in which counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _compile(pattern: str | bytes) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"the pattern {pattern!r} is not valid RE2: {reason}") from None


def _bare(pattern: str) -> tuple[str, bool, bool]:
    """A pattern without its anchors; whether it had one at its beginning, and at its end."""
    anchored = pattern.startswith("^")
    ended = pattern.endswith("$") and not pattern.endswith(r"\$")
    return pattern[anchored : len(pattern) - ended], anchored, ended


def _inside(body: str, anchored: bool, ended: bool) -> str:
    """The pattern for a key within text, from where it may begin inside of a word, unless it is anchored."""
    return (r"\b" if anchored else "") + f"(?:{body})" + ("" if ended else r"[\w.\-]*")


def _encodable(text: str) -> str:
    """RE2 works on UTF-8, which has no lone surrogates; JSON has."""
    return text if text.isascii() else text.encode(errors="replace").decode()
