"""Rewrites URIs in results and definitions of upstreams to the URIs that agents use.

Two upstreams may own the same URI; agents then use another URI for one of them (server/resources). A *link* is a URI
that an agent may read next: of a `resource_link`, of embedded or read contents, and the `ui://` resource of a tool
(MCP Apps, `_meta.ui.resourceUri`). `published` maps a link to the agents' URI. Works on bytes: malformed values, and
values in which no link changes, keep their bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway_core.mcp import jsonrpc

Publisher = Callable[[str], str]
Withheld = Callable[[str], bool]
"""Whether the agent may not read a resource, by the URI that it would use."""
Edit = Callable[[Raw], Raw]

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_ARRAY: Final = msgspec.json.Decoder(list[Raw])
_UI_KEY: Final = b'esourceUri"'
"""How both keys of the link to a user interface end."""
_BACKSLASH: Final = ord("\\")
_ESCAPED: Final = b"\\u00"
"""How JSON writes an ASCII letter as an escape: a key without these bytes is written as it is read."""
_FLAT_UI_KEY: Final = "ui/resourceUri"
"""The key in the first version of MCP Apps."""

_WITHHELD: Final = Raw(b'{"type":"text","text":"[A link to a resource is withheld: this agent may not read it.]"}')

_WEB: Final = frozenset({"http", "https"})
_ELSEWHERE: Final = (
    _WEB
    | {"ws", "wss", "ftp", "ftps", "sftp", "ssh", "telnet", "ldap", "ldaps", "file", "smb", "nfs", "rtsp", "magnet"}
    | {"mailto", "tel", "sms", "sip", "sips", "xmpp", "irc", "ircs", "nntp", "facetime", "skype", "msteams", "zoommtg"}
    | {"urn", "doi", "tag", "cid", "mid", "data", "blob", "about", "javascript", "view-source", "geo", "vscode"}
)
"""Schemes that mean something without an MCP server: a client can open such a URI itself."""


def _escapable(text: bytes) -> bytes:
    """The pattern of a text whose letters may be written as escapes."""
    return b"".join(rb"(?:%c|\\u00(?i:%02x))" % (char, char) for char in text)


_ESCAPED_LETTER: Final = re.compile(rb"\\u00(?:%s)" % b"|".join(rb"(?i:%02x)" % char for char in b"uriesocU"))
"""An escape that stands for a letter of the keys of links."""
_ESCAPED_KEYS: Final = re.compile(rb'(?:"%s|%s)"' % (_escapable(b"uri"), _escapable(b"esourceUri")))
"""The keys of links in any form that JSON allows."""


def scheme_of(uri: str) -> str:
    """The scheme of a URI or URI template in lower case; empty if it has none."""
    scheme, colon, _ = uri.partition(":")
    return scheme.strip().lower() if colon else ""


def leads_elsewhere(uri: str, schemes: Collection[str]) -> bool:
    """Whether a URI that its upstream neither lists nor has a template for most likely does not lead to the upstream.

    `schemes`: the schemes of the listed URIs. Tools also link to resources that are not listed
    (server/tools, Resource Links), so an unknown scheme, or one that the upstream uses, leads to the upstream. But web
    addresses are for clients to load (server/resources, Common URI Schemes).
    """
    scheme = scheme_of(uri)
    return not uri or scheme in _WEB or (scheme in _ELSEWHERE and scheme not in schemes)


def published_links(method: str, raw: bytes, published: Publisher, withheld: Withheld | None = None) -> bytes:
    """The result object `raw` of `method` with its links rewritten for agents.

    A text replaces each `resource_link` to a resource that is `withheld`. Contents that are in the result stay.
    """
    if not may_hold_links(raw):
        return raw
    link = _at("uri", _text(published))
    block = _block(link, withheld)
    ui = {"_meta": _ui(published)}
    match method:
        case "tools/call":
            edits = {"content": _each(block)}
        case "tasks/get":  # a completed task holds the tool's result (SEP-2663)
            edits = {"result": _object({"content": _each(block), **ui})}
        case "prompts/get":
            edits = {"messages": _each(_at("content", block))}
        case "resources/read":
            edits = {"contents": _each(link)}
        case _:
            return raw
    return _edited(raw, _object({**edits, **ui}))


def may_hold_links(raw: bytes) -> bool:
    """Whether there may be a link in a result object."""
    return raw.find(b'"uri"') >= 0 or links_to_interface(raw)  # `find`: see `jsonrpc.has`


def links_to_interface(raw: bytes) -> bool:
    """Whether a tool's definition may hold a link to a user interface."""
    return raw.find(_UI_KEY) >= 0 or _has_escaped_key(raw)


def _has_escaped_key(raw: bytes) -> bool:
    """Whether the key of a link may be written with escapes. The first tests are cheap and end most searches."""
    return (
        _BACKSLASH in raw
        and raw.find(_ESCAPED) >= 0
        and _ESCAPED_LETTER.search(raw) is not None
        and _ESCAPED_KEYS.search(raw) is not None
    )


def published_definition(raw: bytes, published: Publisher) -> bytes:
    """A tool's definition with the link to its user interface rewritten for agents."""
    return _edited(raw, _at("_meta", _ui(published))) if links_to_interface(raw) else raw


def _edited(raw: bytes, edit: Edit) -> bytes:
    old = Raw(raw)
    new = edit(old)
    return raw if new is old else bytes(new)


def _ui(published: Publisher) -> Edit:
    """Edit the links in a `_meta`."""
    uri = _text(published)
    return _object({"ui": _at("resourceUri", uri), _FLAT_UI_KEY: uri})


def _block(link: Edit, withheld: Withheld | None) -> Edit:
    """Edit the link in a content block."""
    embedded = _at("resource", link)

    def edit(raw: Raw) -> Raw:
        kind = _plain(bytes(_members(raw).get("type", Raw())))
        if kind == b'"resource"':
            return embedded(raw)
        if kind != b'"resource_link"':
            return raw
        new = link(raw)
        return _WITHHELD if withheld is not None and _leads_to(new, withheld) else new

    return edit


def _plain(text: bytes) -> bytes:
    """A JSON text without escapes that it does not need."""
    if _BACKSLASH not in text:
        return text
    try:
        return jsonrpc.encode(msgspec.json.decode(text, type=str))
    except msgspec.DecodeError:
        return text


def _leads_to(link: Raw, withheld: Withheld) -> bool:
    """Whether a link leads to a withheld resource. One whose URI is no text leads nowhere."""
    try:
        return withheld(msgspec.json.decode(_members(link).get("uri", Raw()), type=str))
    except msgspec.DecodeError:
        return False


def _text(published: Publisher) -> Edit:
    def edit(raw: Raw) -> Raw:
        try:
            uri = msgspec.json.decode(raw, type=str)
        except msgspec.DecodeError:
            return raw
        new = published(uri)
        return raw if new == uri else Raw(jsonrpc.encode(new))

    return edit


def _at(key: str, edit: Edit) -> Edit:
    return _object({key: edit})


def _object(edits: Mapping[str, Edit]) -> Edit:
    """Edit members of an object; the other members keep their bytes."""

    def edit(raw: Raw) -> Raw:
        members = _members(raw)
        changed = False
        for key, change in edits.items():
            old = members.get(key)
            if old is not None and (new := change(old)) is not old:
                members[key], changed = new, True
        return Raw(jsonrpc.encode(members)) if changed else raw

    return edit


def _each(edit: Edit) -> Edit:
    """Edit the elements of an array."""

    def edit_all(raw: Raw) -> Raw:
        try:
            elements = _ARRAY.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            return raw
        new = [edit(element) for element in elements]
        if all(one is other for one, other in zip(elements, new, strict=True)):
            return raw
        return Raw(jsonrpc.encode(new))

    return edit_all


def _members(raw: Raw) -> dict[str, Raw]:
    try:
        return _OBJECT.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return {}
