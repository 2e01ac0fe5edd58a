"""List answers as ready bytes, a page at a time, and the cursors between them.

A cursor is opaque to agents and sealed: only one that this process gave out for the same list is accepted
(server/utilities/pagination, Error Handling).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway_core import jsonrpc
from gateway_core.catalog.snapshot import Entry
from gateway_core.errors import INVALID_PARAMS, RpcError
from gateway_core.protocol import IMPLEMENTATION, SERVER_INFO_KEY
from gateway_core.types import Era, Kind
from gateway_core.upstream.inventory import LIST_METHODS, RESULT_KEYS, Inventory

_META: Final = {SERVER_INFO_KEY: IMPLEMENTATION}
_MAC_BYTES: Final = 16


class Lists:
    """Prepares pages of `page_size` entries and reads the cursors in between."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._key = secrets.token_bytes(32)

    def pages(
        self, entries: Mapping[Kind, Mapping[str, Entry]], inventories: Sequence[Inventory]
    ) -> dict[tuple[str, Era], tuple[bytes, ...]]:
        """(list method, era) -> the result objects of its pages, one at least.

        Modern pages vouch for as long as the most short-lived part, and are as private as the most private one.
        """
        hints = {
            "resultType": "complete",
            "ttlMs": min((inventory.ttl_ms for inventory in inventories), default=0),
            "cacheScope": _most_private(inventories),
            "_meta": _META,
        }
        found: dict[tuple[str, Era], tuple[bytes, ...]] = {}
        for kind, method in LIST_METHODS.items():
            found[method, "legacy"] = self._cut(kind, [_for_legacy(entry) for entry in entries[kind].values()], {})
            found[method, "modern"] = self._cut(kind, [entry.raw for entry in entries[kind].values()], hints)
        return found

    def _cut(self, kind: Kind, raws: Sequence[bytes], hints: Mapping[str, Any]) -> tuple[bytes, ...]:
        size = self._page_size
        pages = []
        for start in range(0, max(len(raws), 1), size):
            tail = dict(hints)
            if start + size < len(raws):
                tail["nextCursor"] = self._cursor(LIST_METHODS[kind], start // size + 1)
            head = b'{"%b":[%b]' % (RESULT_KEYS[kind].encode(), b",".join(raws[start : start + size]))
            pages.append(head + (b"," + jsonrpc.encode(tail)[1:] if tail else b"}"))
        return tuple(pages)

    def _cursor(self, method: str, page: int) -> str:
        plain = f"{method}.{page}".encode()
        return base64.urlsafe_b64encode(self._mac(plain) + plain).decode()

    def read_cursor(self, method: str, cursor: str) -> int:
        """The page that a cursor stands for; raises `RpcError(INVALID_PARAMS)` when it is not one of `method`."""
        try:
            sealed = base64.urlsafe_b64decode(cursor.encode())
        except (binascii.Error, ValueError):
            sealed = b""
        mac, plain = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        own, _, page = plain.decode(errors="replace").rpartition(".")
        if not hmac.compare_digest(mac, self._mac(plain)) or own != method:
            raise RpcError.of_gateway(INVALID_PARAMS, "this cursor was not given out for this list: start again")
        return int(page)

    def _mac(self, plain: bytes) -> bytes:
        return hmac.digest(self._key, plain, hashlib.sha256)[:_MAC_BYTES]


def _for_legacy(entry: Entry) -> bytes:
    """A definition as agents up to 2025-11-25 may see it: to them an output schema describes an object.

    What another schema describes is dropped from the results that they get, so the schema must not ask for it.
    """
    schema = entry.tool.definition.get("outputSchema") if entry.tool is not None else None
    if schema is None or (isinstance(schema, dict) and schema.get("type") == "object"):
        return entry.raw
    members = jsonrpc.members(entry.raw)
    del members["outputSchema"]
    return jsonrpc.encode(members)


def _most_private(inventories: Sequence[Inventory]) -> str:
    public = bool(inventories) and all(inventory.cache_scope == "public" for inventory in inventories)
    return "public" if public else "private"
