"""Compares the definitions in two versions of the lists of one upstream.

Definitions are compared as JSON values: the order of members and white space make no difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

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
_ORDER: Final[Mapping[What, int]] = {"changed": 0, "added": 1, "removed": 2}
_INDENTED: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, indent=2)
_COMPACT: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, slots=True)
class MemberDifference:
    """One member of a definition whose value differs, as text: a string as it is, other values as JSON."""

    name: str
    before: str | None
    """None if the definition had no such member."""
    after: str | None
    """None if the definition has no such member now."""
    cut: bool
    """Whether the texts are only the part of the values around the first difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One definition that differs."""

    kind: Kind
    name: str
    """See `Item.name`."""
    what: What
    members: tuple[MemberDifference, ...]
    more: int
    """Number of further members that differ."""


def differences(before: Definitions, after: Definitions) -> list[Difference]:
    """The definitions that differ, changed ones first. Of each kind in `after`; takes a while for large lists."""
    found: list[Difference] = []
    for kind in LIST_METHODS:
        if kind in after:
            old = {item.name: item for item in before.get(kind, ())}
            new = {item.name: item for item in after[kind]}
            for name in {**old, **new}:
                difference = _difference(kind, name, old.get(name), new.get(name))
                if difference is not None:
                    found.append(difference)
    return sorted(found, key=lambda one: _ORDER[one.what])


def _difference(kind: Kind, name: str, before: Definition | None, after: Definition | None) -> Difference | None:
    if before is not None and after is not None and before.raw == after.raw:
        return None
    old, new = ({} if item is None else _decoded(item) for item in (before, after))
    differing = [key for key in {**old, **new} if key != NAME_KEYS[kind] and _differ(old, new, key)]
    if before is not None and after is not None:
        if not differing:
            return None
        what: What = "changed"
    else:
        what = "added" if before is None else "removed"
    members = tuple(_member(key, old, new) for key in islice(differing, MAX_MEMBERS))
    return Difference(kind, name, what, members, len(differing) - len(members))


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


def _member(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> MemberDifference:
    texts = [_text(side, key, _indented) for side in (old, new)]
    if any(text is not None and len(text) > _MAX_INDENTED for text in texts):
        texts = [_text(side, key, _COMPACT.encode) for side in (old, new)]
    start = 0
    if None not in texts and any(len(text or "") > MAX_TEXT for text in texts):
        start = max(0, _common(*(text or "" for text in texts)) - _CONTEXT)
    cut = any(text is not None and (start or len(text) > MAX_TEXT) for text in texts)
    before, after = (None if text is None else _part(text, start) for text in texts)
    return MemberDifference(key[:MAX_MEMBER], before, after, cut)


def _text(side: Mapping[str, Any], key: str, write: Callable[[Any], str]) -> str | None:
    """The value of a member as text; None if it is missing."""
    if key not in side:
        return None
    value = side[key]
    try:
        text = value if isinstance(value, str) else write(value)
    except RecursionError:
        text = "nested too deeply to show"
    return text.encode(errors="backslashreplace").decode()


def _indented(value: Any) -> str:
    """The value in several lines; ends soon after `_MAX_INDENTED` characters."""
    pieces, size = list[str](), 0
    for piece in _INDENTED.iterencode(value):
        pieces.append(piece)
        size += len(piece)
        if size > _MAX_INDENTED:
            break
    return "".join(pieces)


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
