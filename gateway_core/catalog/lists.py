"""List answers as ready bytes, a page at a time, and the cursors between them.

A cursor is opaque to agents and sealed: one is accepted only for the list it was given out for, and, where that list
is one principal's own, only from that principal (server/utilities/pagination, Error Handling). It tells after which
entry to go on, so that a walk over a list that changes meanwhile neither repeats nor leaves out what stayed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Era, Kind
from gateway_core.catalog.entry import Entry
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint
from gateway_core.mcp.names import IMPLEMENTATION, SERVER_INFO_KEY
from gateway_core.sealing import Seal
from gateway_core.upstream.lists.inventory import LIST_METHODS, RESULT_KEYS

_META: Final = {SERVER_INFO_KEY: IMPLEMENTATION}
_DIGEST_BYTES: Final = 16
_PLACE: Final = struct.Struct(f">I{_DIGEST_BYTES}s")
"""What a cursor holds: how many entries came before, and a digest of the last one's name."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One list as agents of one era get it."""

    kind: Kind
    names: tuple[str, ...]
    raws: tuple[bytes, ...]
    owner: str
    """The principal whose own it is; empty for everybody's."""
    members: Mapping[str, Any]
    """What each page's result has besides its entries."""
    pages: tuple[bytes, ...] = field(default=(), compare=False)
    """The result objects, ready to be sent; one at least. A cursor is sealed anew each time."""


class Lists:
    """Prepares pages of `page_size` entries and reads the cursors in between."""

    def __init__(self, page_size: int, seal: Seal) -> None:
        self._page_size = page_size
        self._seal = seal

    def listings(
        self, entries: Mapping[Kind, Mapping[str, Entry]], hints: Mapping[Kind, Hint], owner: str = ""
    ) -> dict[tuple[str, Era], Listing]:
        """(list method, era) -> its listing, of each kind in `entries`. `hints` say what the modern one vouches for."""
        found: dict[tuple[str, Era], Listing] = {}
        for kind, published in entries.items():
            method, names = LIST_METHODS[kind], tuple(published)
            legacy = tuple(_for_legacy(entry) for entry in published.values())
            modern = tuple(entry.raw for entry in published.values())
            members = {"resultType": "complete", **hints.get(kind, Hint()).members(), "_meta": _META}
            found[method, "legacy"] = self._paged(kind, names, legacy, owner, {})
            found[method, "modern"] = self._paged(kind, names, modern, owner, members)
        return found

    def page(self, listing: Listing, cursor: str | None) -> bytes:
        """The result object that a cursor stands for; None is the beginning.

        Raises `RpcError(INVALID_PARAMS)` when it was not given out for this list (and principal), or when the entry
        after which it goes on has gone: then there is no telling what the agent has seen.
        """
        if cursor is None:
            return listing.pages[0]
        plain = self._seal.open(_binding(listing), cursor)
        if plain is None:
            raise RpcError.of_gateway(INVALID_PARAMS, "this cursor was not given out for this list: start again")
        start = _place(listing, *_PLACE.unpack(plain))
        number, rest = divmod(start, self._page_size)
        return self._cut(listing, start) if rest or number >= len(listing.pages) else listing.pages[number]

    def _paged(
        self, kind: Kind, names: tuple[str, ...], raws: tuple[bytes, ...], owner: str, members: Mapping[str, Any]
    ) -> Listing:
        listing = Listing(kind, names, raws, owner, members)
        starts = range(0, max(len(raws), 1), self._page_size)
        return Listing(kind, names, raws, owner, members, tuple(self._cut(listing, start) for start in starts))

    def _cut(self, listing: Listing, start: int) -> bytes:
        """The page from the entry number `start` on."""
        end = start + self._page_size
        tail = dict(listing.members)
        if end < len(listing.raws):
            tail["nextCursor"] = self._seal.seal(_binding(listing), _PLACE.pack(end, _digest(listing.names[end - 1])))
        head = b'{"%b":[%b]' % (RESULT_KEYS[listing.kind].encode(), b",".join(listing.raws[start:end]))
        return head + (b"," + jsonrpc.encode(tail)[1:] if tail else b"}")


def _binding(listing: Listing) -> tuple[str, ...]:
    return ("cursor", LIST_METHODS[listing.kind], listing.owner)


def _place(listing: Listing, before: int, digest: bytes) -> int:
    """The number of the entry after the one with that digest: mostly where it was."""
    names = listing.names
    if 0 < before <= len(names) and _digest(names[before - 1]) == digest:
        return before
    for number, name in enumerate(names, start=1):
        if _digest(name) == digest:
            return number
    raise RpcError.of_gateway(
        INVALID_PARAMS, "the list has changed, and this cursor's place in it is gone: start again"
    )


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:_DIGEST_BYTES]


def _for_legacy(entry: Entry) -> bytes:
    """A definition as agents up to 2025-11-25 may see it.

    An output schema that they must not see describes what is dropped from the results that they get.
    """
    if not entry.legacy:
        return entry.raw
    members = jsonrpc.members(entry.raw)
    for name, value in entry.legacy.items():
        if value is None:
            del members[name]
        else:
            members[name] = Raw(value)
    return jsonrpc.encode(members)
