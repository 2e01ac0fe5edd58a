"""Compares the definitions in two versions of the lists of one upstream.

Definitions are compared as JSON values: the order of members and white space make no difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

import msgspec

from gateway_core.activity.events import MAX_NAME
from gateway_core.api import Kind
from gateway_core.errors import RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, NAME_KEYS
from gateway_core.upstream.status import Definition, Definitions

What: TypeAlias = Literal["changed", "added", "removed"]

MAX_TEXT: Final = 4000
"""Characters that are kept of the value of a member, on each side."""
MAX_MEMBERS: Final = 12
"""Members of a definition whose values are kept."""
MAX_MEMBER: Final = 100
"""Characters of the name of a member."""
_CONTEXT: Final = 200
"""Characters before the first difference that are kept of a long value."""
_MAX_INDENTED: Final = 128 * 1024
"""Characters of an indented value; a longer one is compared in one line, since indents can multiply its size."""
MAX_ALL_INDENTED: Final = 1024 * 1024
"""Characters of all indented values of one comparison, because indenting is slow; further values have one line."""
_ORDER: Final[Mapping[What, int]] = {"changed": 0, "added": 1, "removed": 2}
_INDENTED: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, indent=2)
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


class MemberDifference(msgspec.Struct, frozen=True):
    """One member of a definition whose value differs, as text: a string as it is, other values as JSON."""

    name: str
    before: str | None
    """None if the definition had no such member."""
    after: str | None
    """None if the definition has no such member now."""
    cut: bool
    """Whether the texts are only the part of the values around the first difference."""


class Difference(msgspec.Struct, frozen=True):
    """One definition that differs."""

    kind: Kind
    name: str
    """See `Item.name`; without secrets."""
    what: What
    members: tuple[MemberDifference, ...]
    more: int
    """Number of further members that differ."""


class Differences(msgspec.Struct, frozen=True):
    """What differs in the lists of one upstream, changed definitions first."""

    found: tuple[tuple[Kind, str, What], ...]
    """Kind and name of each definition that differs, and what happened to it."""
    shown: tuple[Difference, ...]
    """The first of them, with values."""

    def number(self, what: What) -> int:
        """How many definitions were changed, added or removed."""
        return sum(one == what for _, _, one in self.found)


def differences(
    before: Definitions, after: Definitions, clean: Callable[[bytes], bytes], limit: int, check: Callable[[], None]
) -> Differences:
    """Compare the lists of each kind in `after`; takes a while for large ones.

    `clean`: hides secrets in a text; texts are cut after that. `limit`: definitions with values. `check`: called before
    each definition; an exception of it ends the comparison.
    """
    found: list[tuple[What, _Pair]] = []
    for pair in _pairs(before, after):
        check()
        what = pair.what()
        if what is not None:
            found.append((what, pair))
    found.sort(key=lambda one: _ORDER[one[0]])
    writer = _Writer(clean)
    shown = list[Difference]()
    for what, pair in found[:limit]:
        check()
        shown.append(writer.difference(pair, what))
    return Differences(tuple((pair.kind, pair.name, what) for what, pair in found), tuple(shown))


class _Pair(msgspec.Struct, frozen=True):
    """One definition in both lists, if their bytes differ."""

    kind: Kind
    name: str
    before: Definition | None
    after: Definition | None

    def what(self) -> What | None:
        """What happened to the definition; None if the values are the same."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return None if next(self.differing(*self.decoded()), None) is None else "changed"

    def decoded(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The members of both; none for a missing one."""
        old, new = ({} if item is None else _decoded(item) for item in (self.before, self.after))
        return old, new

    def differing(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
        """The names of the members that differ."""
        return (key for key in {**old, **new} if key != NAME_KEYS[self.kind] and _differ(old, new, key))


def _pairs(before: Definitions, after: Definitions) -> Iterator[_Pair]:
    for kind in LIST_METHODS:
        if kind in after:
            old = {item.name: item for item in before.get(kind, ())}
            new = {item.name: item for item in after[kind]}
            for name in {**old, **new}:
                one, other = old.get(name), new.get(name)
                if one is None or other is None or one.raw != other.raw:
                    yield _Pair(kind, name, one, other)


def _decoded(item: Definition) -> Mapping[str, Any]:
    try:
        found = jsonrpc.value(item.raw)
    except RpcError:
        return {"definition": item.raw.decode(errors="replace")}
    return found if isinstance(found, dict) else {"definition": found}


def _differ(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    if key not in old or key not in new:
        return True
    try:
        return _COMPACT.encode(old[key]) != _COMPACT.encode(new[key])  # `==` takes 1 for true
    except RecursionError:
        return True


class _Writer:
    """Writes the values of one comparison as text, without secrets."""

    def __init__(self, clean: Callable[[bytes], bytes]) -> None:
        self._clean = clean
        self._left = MAX_ALL_INDENTED
        """Characters that may still be indented."""

    def difference(self, pair: _Pair, what: What) -> Difference:
        """The definition with the members that differ."""
        old, new = pair.decoded()
        differing = list(pair.differing(old, new))
        members = tuple(self._member(key, old, new) for key in islice(differing, MAX_MEMBERS))
        name = self._shown(pair.name)[:MAX_NAME]
        return Difference(pair.kind, name, what, members, len(differing) - len(members))

    def _member(self, key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> MemberDifference:
        limit = min(_MAX_INDENTED, self._left)
        texts = [_text(side, key, lambda value: self._indented(value, limit)) for side in (old, new)]
        if any(text is not None and len(text) > limit for text in texts):
            texts = [_text(side, key, _COMPACT.encode) for side in (old, new)]
        one, other = (None if text is None else self._shown(text) for text in texts)
        start = 0
        if one is not None and other is not None and max(len(one), len(other)) > MAX_TEXT:
            start = max(0, _common(one, other) - _CONTEXT)
        cut = any(text is not None and (start or len(text) > MAX_TEXT) for text in (one, other))
        before, after = (None if text is None else _part(text, start) for text in (one, other))
        return MemberDifference(self._shown(key)[:MAX_MEMBER], before, after, cut)

    def _indented(self, value: Any, limit: int) -> str:
        """The value in several lines; ends soon after `limit` characters."""
        pieces, size = list[str](), 0
        for piece in _INDENTED.iterencode(value):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                break
        self._left = max(0, self._left - size)
        return "".join(pieces)

    def _shown(self, text: str) -> str:
        return self._clean(text.encode(errors="backslashreplace")).decode(errors="replace")


def _text(side: Mapping[str, Any], key: str, write: Callable[[Any], str]) -> str | None:
    """The value of a member as text; None if it is missing."""
    if key not in side:
        return None
    value = side[key]
    try:
        return value if isinstance(value, str) else write(value)
    except RecursionError:
        return "nested too deeply to show"


def _common(one: str, other: str) -> int:
    """Number of characters with which both texts begin."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _part(text: str, start: int) -> str:
    end = start + MAX_TEXT
    return f"{'…' if start else ''}{text[start:end]}{'…' if len(text) > end else ''}"
