"""List results as encoded pages, and the cursors between them.

A cursor is a sealed token, valid only for the list that it was issued for. If that list belongs to one principal, only
that principal can use it (server/utilities/pagination, Error Handling); the same holds for a profile. It identifies the
last entry sent, so that an agent that reads a changing list neither misses nor repeats the entries that stay.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Era, Kind, Published
from gateway_core.catalog.entry import Entry, PublishedNames
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.limits.slices import SLICE, Slices, mapped
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint
from gateway_core.mcp.names import IMPLEMENTATION, SERVER_INFO_KEY
from gateway_core.sealing import Seal
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, RESULT_KEYS

_META: Final = {SERVER_INFO_KEY: IMPLEMENTATION}
_DIGEST_BYTES: Final = 16
_PLACE: Final = struct.Struct(f">I{_DIGEST_BYTES}s")
"""The content of a cursor: the number of entries before it, and a digest of the last one's name."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One list for agents of one era."""

    kind: Kind
    names: tuple[str, ...]
    raws: tuple[bytes, ...]
    owner: str
    """The principal that the list belongs to; empty for a shared list."""
    profile: str
    """The profile that the list belongs to; empty without one."""
    members: Mapping[str, Any]
    """The other members of each page's result, besides its entries."""
    pages: tuple[bytes, ...] = field(default=(), compare=False)
    """The encoded result objects: all of a shared list, the first of a principal's list. Not compared, because equal
    cursors have different tokens."""
    published: Mapping[str, Published] = field(default_factory=dict, compare=False)
    """The entries as plugins see them."""


class Lists:
    """Encodes pages of `page_size` entries and reads the cursors between them."""

    def __init__(self, page_size: int, seal: Seal) -> None:
        self._page_size = page_size
        self._seal = seal

    def pages_as(self, other: Lists) -> bool:
        """Whether both make the same pages, with cursors that both can read."""
        return self._page_size == other._page_size and self._seal is other._seal

    def listings(
        self,
        entries: Mapping[Kind, Mapping[str, Entry]],
        hints: Mapping[Kind, Hint],
        owner: str = "",
        profile: str = "",
    ) -> Slices[dict[tuple[str, Era], Listing]]:
        """(list method, era) -> listing, for each kind in `entries`, in slices.

        `hints`: the cache hints of the modern ones.
        """
        found: dict[tuple[str, Era], Listing] = {}
        for kind, published in entries.items():
            method, names = LIST_METHODS[kind], tuple(published)
            legacy = tuple((yield from mapped(_for_legacy, published.values())))
            modern = tuple(entry.raw for entry in published.values())
            members = {"resultType": "complete", **hints.get(kind, Hint()).members(), "_meta": _META}
            seen = PublishedNames(published)
            old = Listing(kind, names, legacy, owner, profile, {}, published=seen)
            found[method, "legacy"] = yield from self._paged(old)
            found[method, "modern"] = yield from self._paged(replace(old, raws=modern, members=members))
        return found

    def page(self, listing: Listing, cursor: str | None) -> bytes:
        """The result object of the page at a cursor; None is the first page.

        Raises `RpcError(INVALID_PARAMS)` if the cursor was not issued for this list (and principal), or if its entry
        no longer exists: what the agent has seen is then unknown.
        """
        if cursor is None:
            return listing.pages[0]
        plain = self._seal.open(_binding(listing), cursor)
        if plain is None:
            raise RpcError.of_gateway(INVALID_PARAMS, "this cursor was not given out for this list: start again")
        start = _place(listing, *_PLACE.unpack(plain))
        number, rest = divmod(start, self._page_size)
        return self._cut(listing, start) if rest or number >= len(listing.pages) else listing.pages[number]

    def _paged(self, listing: Listing) -> Slices[Listing]:
        """The listing with its pages."""
        pages: list[bytes] = []
        for start in range(0, 1 if listing.owner else max(len(listing.raws), 1), self._page_size):
            pages.append(self._cut(listing, start))
            if start > SLICE:
                yield
        return replace(listing, pages=tuple(pages))

    def _cut(self, listing: Listing, start: int) -> bytes:
        """The page that begins at entry number `start`."""
        end = start + self._page_size
        tail = dict(listing.members)
        if end < len(listing.raws):
            tail["nextCursor"] = self._seal.seal(_binding(listing), _PLACE.pack(end, _digest(listing.names[end - 1])))
        head = b'{"%b":[%b]' % (RESULT_KEYS[listing.kind].encode(), b",".join(listing.raws[start:end]))
        return head + (b"," + jsonrpc.encode(tail)[1:] if tail else b"}")


def _binding(listing: Listing) -> tuple[str, ...]:
    return ("cursor", LIST_METHODS[listing.kind], listing.owner, listing.profile)


def _place(listing: Listing, before: int, digest: bytes) -> int:
    """The number of the entry after the one with that digest. Raises `RpcError(INVALID_PARAMS)` if there is none."""
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
    """A definition for agents of revisions up to 2025-11-25.

    An output schema that they cannot use is removed; so is structured content that is not an object, from results.
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
