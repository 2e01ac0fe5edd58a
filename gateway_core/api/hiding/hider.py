"""`Hider`: replaces secrets in decoded JSON and in text with `[REDACTED]`.

In JSON, the whole value of a key that names a secret is hidden, and so is `value` in
`{"name": "password", "value": …}`; strings that contain JSON are decoded too. In text, the value after such a key and
`=` or `:` is hidden, up to the closing quote or the next space. Strings in the shape of a secret are hidden
everywhere. If the end of a secret is unclear, the longer part is hidden.

A question to a person must show what the agent wants to do, and agents choose the names in texts. Hiders for questions
therefore hide at most one word after such a name, and show the rest of the text.

Names and shapes are the built-in ones (`names`, `shapes`) and given patterns, which match keys. RE2 does not backtrack:
the time is linear in the text for all patterns.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from gateway_core.api.hiding import names
from gateway_core.api.hiding.shapes import SHAPES, WORD_SHAPES, shown
from gateway_core.concealing import MARKER
from gateway_core.patterns import Patterns, compiled

_MARKER: Final = MARKER.encode()
MAX_MEMORY: Final = 64 * 1024 * 1024
"""Bytes that RE2 may use to search with given patterns; usual ones take less than a megabyte."""
_HANDLES: Final = Patterns(["taskId", "requestState"])
MAX_LEVELS: Final = 4
"""Maximum nesting of JSON within strings; deeper JSON is hidden."""
_SHORT: Final = 64
"""Maximum characters of a cached key."""
_SHORTEST: Final = 11
"""Length of the shortest shape of a secret without `=`, `:` and `--`: `sk-` and eight characters."""

_BACKSLASH: Final = ord("\\")
_LOOKS_AROUND: Final = re.compile(r"[\^$]|\\[AzbB]")
"""Parts of a pattern that make a match depend on its surroundings."""
_WORD: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_KEY_RIM: Final = b"=:> \t\r\n\v\f\"'\\"
"""Characters between a key and its value."""

_ASSIGNS: Final = r"""\\*["']?\s*(?:=>|:=|==?|:)"""
_QUOTED: Final = (
    r"""\\+"[^"]*(?:"|$)"""  # \"escaped quotes\", of JSON in a string
    r"""|"(?:[^"\\]|\\.)*\\?(?:"|$)"""
    r"""|'(?:[^'\\]|\\.)*\\?(?:'|$)"""
    r"""|\[[^\]]*(?:\]|$)|\{[^}]*(?:\}|$)"""
)
_VALUE: Final = rf"""(?:(?:bearer|basic|digest|token)\s+)?(?:{_QUOTED}|[^\s&;"'<>]+)"""  # Authorization: Bearer …
_ARGUMENT: Final = rf"""(?:{_QUOTED}|[^\s&;"'<>\-][^\s&;"'<>]*)"""
_LINE: Final = rf"""(?:{_QUOTED}|[^\r\n"'<>]+)"""

_CHAR: Final = r"""[^\s&;|"'<>()`\\]"""
"""A character of a word: neither white space nor one that ends a command or a quoted text."""
_WORD_VALUE: Final = rf"""(?:(?:bearer|basic|digest|token)[ \t]+)?\\*["']?{_CHAR}+"""
_WORD_ARGUMENT: Final = rf"""\\*["']?(?:[^\s&;|"'<>()`\\\-]{_CHAR}*)"""
_REPEATS: Final = frozenset("*+?{")
_ONE_WORD: Final = re.compile(rf"{_CHAR}*")


class Hider:
    """Hides the values of keys that have a usual name of a secret or match a pattern, and the shapes of secrets.

    A value that is null stays. Patterns are RE2, ignore case, and have no exceptions. One object may be used by several
    threads.
    """

    def __init__(
        self,
        patterns: Sequence[str] = (),
        *,
        builtin: bool = True,
        handles: bool = False,
        for_questions: bool = False,
    ) -> None:
        """`builtin`: whether the built-in names and shapes count, besides `patterns`.

        `handles`: also hide values that agents return to continue (task ids, request states). `for_questions`: hide at
        most one word where an agent chooses the name: in texts, after options, in `{"name": …, "value": …}`. Raises
        `ValueError` as `Patterns` does.
        """
        self._for_questions = for_questions
        self._patterns = Patterns(patterns)
        self._handles = _HANDLES if handles and not builtin else Patterns()
        keys = (*self._patterns, *self._handles)
        bare = [_bare(pattern) for pattern in keys]
        inside = "|".join(_inside(*parts) for parts in bare)
        self._builtin = _BuiltIn(handles=handles, for_questions=for_questions) if builtin else None
        self._known = lru_cache(maxsize=1024)(self._looked_at)
        # On bytes, because RE2's wrapper recounts the characters of a `str` for each match.
        value = rf"[ \t]*){_WORD_VALUE}" if for_questions else rf"\s*){_VALUE}"
        self._text = compiled(f"(?is)((?:{inside}){_ASSIGNS}{value}".encode(), max_memory=MAX_MEMORY) if keys else None
        anywhere = [f"(?i:{body})" for body, _, _ in bare] + ([self._builtin.anywhere] if self._builtin else [])
        can_clear = anywhere and not any(_LOOKS_AROUND.search(body) for body, _, _ in bare)
        self._anywhere = compiled("|".join(anywhere).encode(), max_memory=MAX_MEMORY) if can_clear else None

    def clears(self, raw: bytes) -> bool:
        """Whether a single search of these JSON bytes proves that they contain no secret.

        Without escapes, the bytes contain every string verbatim. So if no key or shape matches anywhere, no string
        contains one. Returns False if a pattern has inner anchors or word boundaries, which depend on the context.
        """
        if self._text is None and self._builtin is None:
            return True
        if self._anywhere is None or _BACKSLASH in raw or self._anywhere.search(raw) is not None:
            return False
        try:
            raw.decode()
        except UnicodeDecodeError:
            return False
        return True

    def value(self, value: Any, level: int = 0) -> Any:
        """A copy of decoded JSON with secrets hidden; the same object if there are none."""
        if isinstance(value, str):
            return self.text(value, level)
        if isinstance(value, list):
            items = [self.value(item, level) for item in value]
            if self._builtin is not None:
                self._builtin.hide_arguments(value, items)
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        if isinstance(value, dict):
            return self._members(value, level)
        return value

    def text(self, text: str, level: int = 0) -> str:
        """The text with secrets hidden; the same object if there are none."""
        builtin = self._builtin
        if not ("=" in text or ":" in text) and (builtin is None or (len(text) < _SHORTEST and "--" not in text)):
            return text
        if builtin is None and self._text is None:
            return text
        if text.lstrip()[:1] in {"{", "["} and (":" in text or '"' in text):
            try:
                decoded = json.loads(text, object_pairs_hook=_once)
                hidden = self.value(decoded, level + 1) if level < MAX_LEVELS else None
            except ValueError:
                pass  # not JSON, or JSON with duplicate members
            except RecursionError:
                if not self._for_questions:
                    return MARKER
            else:
                if level < MAX_LEVELS:
                    return text if hidden is decoded else json.dumps(hidden, ensure_ascii=False)
                if not self._for_questions:
                    return MARKER
        data = clean = text.encode(errors="replace")
        if self._text is not None:
            clean = self._without_own(clean)
        if builtin is not None:
            clean = builtin.hidden(clean)
        return text if clean is data else clean.decode()

    def _without_own(self, data: bytes) -> bytes:
        pieces: list[bytes] = []
        kept = 0
        for match in self._text.finditer(data):  # type: ignore[union-attr]
            pieces += (data[kept : match.end(1)], _MARKER)
            kept = match.end()
        return b"".join((*pieces, data[kept:])) if pieces else data

    def _members(self, members: dict[str, Any], level: int) -> dict[str, Any]:
        label = members.get("name", members.get("key"))
        labelled = isinstance(label, str) and self._key(label, level)[0]
        hidden: dict[str, Any] = {}
        same = True
        for key, value in members.items():
            is_secret, shown_key = self._key(key, level)
            hides = value is not None and (is_secret or (labelled and key == "value" and self._may_hide(value)))
            shown = MARKER if hides else self.value(value, level)
            while shown_key in hidden:  # no member may replace another
                shown_key = f"{shown_key} {len(hidden)}"
            hidden[shown_key] = shown
            same = same and shown is value and shown_key == key
        return members if same else hidden

    def _may_hide(self, value: Any) -> bool:
        """Whether a whole value may be hidden whose name an agent may have chosen."""
        return not self._for_questions or _is_word(value)

    def _key(self, key: str, level: int) -> tuple[bool, str]:
        """Whether the value of this key is a secret, and the key with its own secrets hidden."""
        return self._known(key, level) if len(key) <= _SHORT else self._looked_at(key, level)

    def _looked_at(self, key: str, level: int) -> tuple[bool, str]:
        by_pattern = self._patterns.matches(key) or self._handles.matches(key)
        return by_pattern or (self._builtin is not None and self._builtin.names(key)), self.text(key, level)


class _BuiltIn:
    """Finds the built-in names and shapes in one pass."""

    def __init__(self, *, handles: bool, for_questions: bool) -> None:
        stems = f"{names.STEMS}|{names.HANDLES}" if handles else names.STEMS
        self._handles = handles
        self._for_questions = for_questions
        space, value, argument, shapes = (
            (r"[ \t]*", _WORD_VALUE, _WORD_ARGUMENT, WORD_SHAPES)
            if for_questions
            else (r"\s*", _VALUE, _ARGUMENT, SHAPES)
        )
        self.anywhere: Final = f"(?i:{stems})|{names.WORDS}(?:[^a-z]|$)|(?s:{SHAPES})"
        """Matches every JSON without escapes that contains a secret."""
        self._found = compiled(
            rf"(?:(?i:{stems})[\w.\-]*|{names.WORDS}){_ASSIGNS}{space}(?i:{value})"
            rf"|--(?:\w[\w\-]*)?(?i:{stems})[\w\-]*[ \t]+{argument}|(?s:{shapes})".encode()
        )
        # Possessive quantifiers, to avoid backtracking.
        self._key = re.compile(
            rf"(?:(?i:{stems})[\w.\-]*+|{names.WORDS})\\*+[\"']?\s*+(?:=>|:=|==?|:){space}+"
            r"|--\w[\w\-]*+[ \t]++".encode()
        )
        self._known = lru_cache(maxsize=1024)(self._looked_at)
        self._seen = lru_cache(maxsize=1024)(self._look)

    def names(self, key: str) -> bool:
        """Whether the value of this key is a secret."""
        return self._known(key) if len(key) <= _SHORT else self._looked_at(key)

    def _looked_at(self, key: str) -> bool:
        return names.is_secret(key, handles=self._handles)

    def hidden(self, data: bytes) -> bytes:
        """UTF-8 text with secrets hidden; the same object if there are none."""
        pieces: list[bytes] = []
        kept = spared = 0
        at: int | None = 0
        while at is not None:
            found, at = self._found.finditer(data, at), None
            for match in found:
                start, end = match.span()
                key = self._key.match(data, start, end)
                if key is None:
                    before, after = shown(data[start:end])
                    pieces += (data[kept:start], before, _MARKER, after)
                    kept = end
                    continue
                value = key.end()
                name = self._whole(data, start, value)
                is_secret, in_line = self._seen(name) if len(name) <= _SHORT else self._look(name)
                if not is_secret:
                    spared += end - value
                    if spared <= len(data):
                        at = value - 1
                        break
                    # Limits how often the text after a name without a secret is searched again.
                    if self._for_questions:
                        continue  # the next match begins after this value
                    end = len(data)  # hide the rest
                pieces += (data[kept:value], _MARKER)
                kept = end
                if in_line:
                    kept = at = max(end, _IN_LINE.match(data, value).end())
                    break
        return b"".join((*pieces, data[kept:])) if pieces else data

    def _look(self, name: bytes) -> tuple[bool, bool]:
        """Whether the value of this name is a secret, and whether it extends to the end of the line."""
        in_line = not self._for_questions and names.LINES.search(name) is not None
        return self._looked_at(name.decode(errors="replace")), in_line

    @staticmethod
    def _whole(data: bytes, start: int, end: int) -> bytes:
        """The whole name around `start`; `start` to `end` covers a part of it and the separator."""
        if start and data[start - 1] in _WORD:
            before = data[max(0, start - _SHORT) : start]
            start -= len(before) - len(before.rstrip(_WORD))
        return data[start:end].rstrip(_KEY_RIM)

    def hide_arguments(self, given: list[Any], items: list[Any]) -> None:
        """Hide in `items` the argument after an option for a secret in `given`: `["--password", "…"]`."""
        for number, item in enumerate(given[:-1], start=1):
            if isinstance(item, str) and item.startswith("--") and "=" not in item and self.names(item):
                following = given[number]
                hides = isinstance(following, str) and not following.startswith("-")
                if hides and (not self._for_questions or _is_word(following)):
                    items[number] = MARKER


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object with these members. Raises `ValueError` for duplicates, since parsers differ on which one counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member is given twice")
    return members


def _is_word(value: Any) -> bool:
    """Whether a value of JSON is a single word, a number, or true or false."""
    return _ONE_WORD.fullmatch(value) is not None if isinstance(value, str) else not isinstance(value, list | dict)


def _bare(pattern: str) -> tuple[str, bool, bool]:
    """A pattern without its anchors, and whether it had one at the beginning and at the end.

    An anchor that is repeated, as in `^+a`, stays.
    """
    anchored = pattern.startswith("^") and pattern[1:2] not in _REPEATS
    ended = pattern.endswith("$") and not pattern.endswith(r"\$")
    return pattern[anchored : len(pattern) - ended], anchored, ended


def _inside(body: str, anchored: bool, ended: bool) -> str:
    """The pattern for a key within text; an unanchored one may match inside a word."""
    return (r"\b" if anchored else "") + f"(?:{body})" + ("" if ended else r"[\w.\-]*")


_IN_LINE: Final = compiled(f"(?is){_LINE}".encode())
