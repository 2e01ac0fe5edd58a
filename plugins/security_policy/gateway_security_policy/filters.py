"""Removes what a principal may not use from lists and results; works on bytes, so that the rest keeps its form."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core import Published

MAX_PAGES: Final = 1024
MAX_BYTES: Final = 32 * 1024 * 1024
"""Bounds of the filtered pages in memory."""
LINK: Final = b'"resource_link"'
PUBLIC: Final = b'"public"'
_ESCAPED: Final = re.compile(rb"\\u00(?:5f|6[1-9a-f]|7[0-9a])", re.IGNORECASE)
"""A letter or underscore that is written as an escape, which no writer does without a purpose."""


def may_have(raw: bytes, word: bytes) -> bool:
    """Whether JSON may have a string, given in quotes, however it is written."""
    return word in raw or _ESCAPED.search(raw) is not None


_SCOPE: Final = "cacheScope"
_PRIVATE: Final = Raw(b'"private"')
_WITHHELD: Final = Raw(b'{"type":"text","text":"[A link to a resource is withheld: this agent may not read it.]"}')

_KEYS: Final = {
    "tools/list": ("tools", "name"),
    "prompts/list": ("prompts", "name"),
    "resources/list": ("resources", "uri"),
    "resources/templates/list": ("resourceTemplates", "uriTemplate"),
}
"""List method -> the member of its result that holds the entries, and the member of an entry that is its name."""


class _Entry(msgspec.Struct):
    name: Any = None
    uri: Any = None
    uriTemplate: Any = None
    annotations: Any = None


_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_ENTRIES: Final = msgspec.json.Decoder(list[_Entry])
_ENCODE: Final = msgspec.json.Encoder().encode

Shown = Callable[[Published, Mapping[str, Any]], bool]


class Pages:
    """Filtered pages, each with the list that it was made for."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[int, str, bytes], tuple[object, object, bytes]] = OrderedDict()
        self._bytes = 0

    def get(self, view: object, method: str, raw: bytes, listed: object) -> bytes | None:
        """The filtered form of a page; None if it is not known."""
        found = self._pages.get((id(view), method, raw))
        return found[2] if found is not None and found[0] is view and found[1] is listed else None

    def put(self, view: object, method: str, raw: bytes, listed: object, filtered: bytes) -> None:
        key = (id(view), method, raw)
        self._forget(key)
        self._pages[key] = view, listed, filtered
        self._bytes += len(raw) + len(filtered)
        while self._pages and (len(self._pages) > MAX_PAGES or self._bytes > MAX_BYTES):
            self._forget(next(iter(self._pages)))

    def _forget(self, key: tuple[int, str, bytes]) -> None:
        found = self._pages.pop(key, None)
        if found is not None:
            self._bytes -= len(key[2]) + len(found[2])


def filtered_page(method: str, raw: bytes, listed: Mapping[str, Published], shown: Shown) -> bytes:
    """A page of a list with the entries that are `shown`. Entries that the gateway does not know are removed.

    The page is private to its principal: the same request of another one may have another answer.
    """
    key, name = _KEYS[method]
    members = _OBJECT.decode(raw)
    if key in members:
        kept = []
        for entry, given in zip(_ENTRIES.decode(members[key]), _ARRAY.decode(members[key]), strict=True):
            own = getattr(entry, name)
            known = listed.get(own) if isinstance(own, str) else None
            hints = entry.annotations if isinstance(entry.annotations, dict) else {}
            if known is not None and shown(known, hints):
                kept.append(given)
        members[key] = Raw(b"[" + b",".join(map(bytes, kept)) + b"]")
    return _private(members)


def private_result(raw: bytes) -> bytes:
    """A result that only its own principal may cache."""
    return _private(_OBJECT.decode(raw))


def _private(members: dict[str, Raw]) -> bytes:
    if _SCOPE in members:
        members[_SCOPE] = _PRIVATE
    return _ENCODE(members)


def without_links(method: str, raw: bytes, readable: Callable[[str], bool]) -> bytes:
    """A result in which a text replaces each link to a resource that is not `readable`; `raw` itself without any."""
    members = _OBJECT.decode(raw)
    if method == "prompts/get":
        changed = _edit_each(members, "messages", lambda message: _edit(message, "content", readable))
    elif method == "tasks/get":
        task = _OBJECT.decode(members["result"]) if "result" in members else {}
        changed = _edit_each(task, "content", lambda block: _withheld(block, readable))
        if changed:
            members["result"] = Raw(_ENCODE(task))
    else:
        changed = _edit_each(members, "content", lambda block: _withheld(block, readable))
    return _ENCODE(members) if changed else raw


def _edit_each(members: dict[str, Raw], key: str, edit: Callable[[Raw], Raw]) -> bool:
    if bytes(members.get(key, b"")).lstrip()[:1] != b"[":
        return False
    old = _ARRAY.decode(members[key])
    new = [edit(element) for element in old]
    if all(one is other for one, other in zip(old, new, strict=True)):
        return False
    members[key] = Raw(_ENCODE(new))
    return True


def _edit(message: Raw, key: str, readable: Callable[[str], bool]) -> Raw:
    if bytes(message).lstrip()[:1] != b"{":
        return message
    members = _OBJECT.decode(message)
    old = members.get(key)
    if old is None or (new := _withheld(old, readable)) is old:
        return message
    members[key] = new
    return Raw(_ENCODE(members))


class _Block(msgspec.Struct):
    type: Any = None
    uri: Any = None


def _withheld(block: Raw, readable: Callable[[str], bool]) -> Raw:
    if bytes(block).lstrip()[:1] != b"{":
        return block
    found = msgspec.json.decode(block, type=_Block)
    if found.type != "resource_link" or (isinstance(found.uri, str) and readable(found.uri)):
        return block
    return _WITHHELD
