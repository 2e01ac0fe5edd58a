"""Fetches all pages of one list of an upstream, and checks each entry.

Everything that a server controls is bounded: pages, entries, the size of an entry and of a cursor, warnings. Pages are
processed in slices, between which the event loop runs other tasks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core.api import Era, Kind
from gateway_core.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, DeliveryError, OutcomeUnknown, RpcError, overloaded
from gateway_core.limits.accounts import UNCOUNTED, Account
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint, hint_of
from gateway_core.mcp.reserved import without_reserved
from gateway_core.mcp.sdk import SDK
from gateway_core.upstream.lists.definitions import Unusable, legacy_members, repair
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, NAME_KEYS, RESULT_KEYS, FetchedList, Item
from gateway_core.upstream.requests import Reply

MAX_PAGES: Final = 64
MAX_ITEMS: Final = 10_000
"""Maximum entries of one list; a longer list is truncated."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of all entries of one list."""
MAX_ENTRY: Final = 512 * 1024
"""Maximum bytes of one entry; a larger one is omitted."""
MAX_COMMAS: Final = 1_000_000
"""Maximum commas in one page: an upper bound for its entries that is cheap to compute."""
MAX_CURSOR: Final = 16 * 1024
"""Maximum bytes of a cursor."""
MAX_WARNINGS: Final = 20
"""Maximum warnings about entries of one list; further ones are only counted."""
MAX_NAME: Final = 100
"""Maximum characters of an entry's name in a warning."""
MIRRORING: Final = b"x-mcp-header"
"""What the definition of a tool has somewhere if headers mirror its parameters."""
SLICE: Final = 64 * 1024
"""Bytes of entries after which the fetch yields to the event loop."""
COPIES: Final = 3
"""Copies of an entry: as fetched, and on the encoded pages for each era."""
ENTRY_MEMORY: Final = 1024
"""Bytes that an entry takes besides its definition."""
ENTRY_COST: Final = 512
"""The minimum number of bytes that an entry counts for in a slice."""

Send = Callable[[str, Mapping[str, Any]], Awaitable[Reply]]


class _Page(msgspec.Struct, rename="camel"):
    tools: Raw = Raw()
    resources: Raw = Raw()
    resource_templates: Raw = Raw()
    prompts: Raw = Raw()
    next_cursor: Raw = Raw()
    result_type: Any = "complete"
    ttl_ms: Any = None
    cache_scope: Any = None

    def entries(self, kind: Kind) -> Raw:
        return {
            "tool": self.tools,
            "resource": self.resources,
            "template": self.resource_templates,
            "prompt": self.prompts,
        }[kind]


_PAGE: Final = msgspec.json.Decoder(_Page)
_ENTRIES: Final = msgspec.json.Decoder(list[Raw])


async def fetch_list(
    upstream: str,
    send: Send,
    era: Era,
    kind: Kind,
    wanted: frozenset[str] | None = None,
    *,
    timeout: float,
    account: Account = UNCOUNTED,
) -> FetchedList:
    """Fetch one list within `timeout` seconds.

    `wanted`: the names of the only tools to keep, if given. `account` counts the list. If the list is too long or a
    later page fails, the entries received so far are kept, with a warning. Raises `DeliveryError` or `RpcError` if no
    entries were received before, and `RpcError(OVERLOADED)` if the list does not fit into the memory.
    """
    walk = _Walk(upstream, send, era, kind, deadline=asyncio.get_running_loop().time() + timeout, account=account)
    return await walk.run(wanted if kind == "tool" else None)


class _Walk:
    """One fetch of all pages of a list."""

    def __init__(self, upstream: str, send: Send, era: Era, kind: Kind, *, deadline: float, account: Account) -> None:
        self._upstream = upstream
        self._send = send
        self._era = era
        self._kind = kind
        self._method = LIST_METHODS[kind]
        self._deadline = deadline
        self._warnings: list[str] = []
        self._uncounted = 0
        self._found: dict[str, Item] = {}
        self._seen = 0
        self._bytes = 0
        self._slice = SLICE
        self._holding = account.holding()
        self._hint: Hint | None = None

    async def run(self, wanted: frozenset[str] | None) -> FetchedList:
        if not await self._pages():
            self._warn(f"{self._where} does not end, or is too long: kept the first {len(self._found)} entries")
        if wanted is not None:
            missing = wanted.difference(self._found)
            if missing:
                names = ", ".join(sorted(missing))
                self._warn(f"upstream {self._upstream} does not have what its key `tools` asks for: {names}")
        items = tuple(item for item in self._found.values() if wanted is None or item.name in wanted)
        warnings = tuple(self._warnings)
        if self._uncounted:
            warnings += (f"{self._where}: {self._uncounted} more entries are malformed",)
        if wanted is not None:
            self._bytes = sum(len(item.raw) for item in items)
        self._count(len(items))
        return FetchedList(items, self._hint or Hint(), warnings, self._holding)

    def _count(self, entries: int) -> None:
        """Count the entries so far. Raises `RpcError(OVERLOADED)` if there is no room."""
        if not self._holding.resize(self._bytes * COPIES + entries * ENTRY_MEMORY):
            raise overloaded("it does not fit into the gateway's memory (limits.memory)")

    @property
    def _where(self) -> str:
        return f"{self._method} of upstream {self._upstream}"

    def _warn(self, text: str) -> None:
        """Add a warning about the whole list, before those about entries."""
        self._warnings.insert(0, text)

    def _warn_of_entry(self, text: str) -> None:
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(text)
        else:
            self._uncounted += 1

    # -- pages --------------------------------------------------------------------------------------------------

    async def _pages(self) -> bool:
        """Fetch the pages. Returns False if the list is too long or repeats a cursor."""
        cursors: set[bytes] = set()
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            try:
                page = await self._page(params)
                entries = self._entries(page) if page is not None else []
            except (DeliveryError, RpcError) as error:
                if not self._seen:
                    raise
                self._warn(f"{self._where} broke off after {len(self._found)} entries: {str(error)[:200]}")
                return True
            if not await self._take(entries):
                return False
            cursor = bytes(page.next_cursor) if page is not None else b""
            if cursor in {b"", b"null"}:
                return True
            if cursor in cursors or len(cursor) > MAX_CURSOR:
                return False
            if cursor[:1] not in b'"-0123456789':
                self._warn(f"{self._where} stops after {len(self._found)} entries: its cursor is no text")
                return True
            cursors.add(cursor)
            params = {"cursor": Raw(cursor)}
        return False

    async def _page(self, params: Mapping[str, Any]) -> _Page | None:
        """Fetch one page. Returns None if the server does not know the method, although it announced the list."""
        try:
            async with asyncio.timeout_at(self._deadline):
                reply = await self._send(self._method, params)
        except TimeoutError:
            raise OutcomeUnknown(f"no answer to {self._method} in time") from None
        if reply.error is not None:
            if reply.error.code == METHOD_NOT_FOUND:
                return None
            raise reply.error
        try:
            page = _PAGE.decode(reply.result)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._malformed(str(error)) from None
        if self._era == "modern" and page.result_type != "complete":
            raise RpcError(INTERNAL_ERROR, f"its answer to {self._method} is invalid: it is not complete")
        hint = hint_of(page.ttl_ms, page.cache_scope)
        self._hint = hint if self._hint is None else self._hint.merged(hint)
        return page

    def _entries(self, page: _Page) -> list[Raw]:
        raw = bytes(page.entries(self._kind))
        if raw[:1] != b"[":
            raise self._malformed(f"{RESULT_KEYS[self._kind]!r} is not a list")
        if raw.count(b",") > MAX_COMMAS:
            raise self._malformed("it is too large")
        try:
            return _ENTRIES.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._malformed(str(error)) from None

    def _malformed(self, why: str) -> RpcError:
        return RpcError(INTERNAL_ERROR, f"its answer to {self._method} is malformed: {why}")

    # -- entries ------------------------------------------------------------------------------------------------

    async def _take(self, entries: list[Raw]) -> bool:
        """Add the entries of a page, in slices. Returns whether all were within `MAX_ITEMS` and `MAX_BYTES`."""
        for raw in entries:
            data = bytes(raw)
            self._seen += 1
            self._bytes += len(data)
            if self._seen > MAX_ITEMS or self._bytes > MAX_BYTES:
                return False
            self._slice -= max(len(data), ENTRY_COST)
            if self._slice <= 0:
                self._slice = SLICE
                self._count(self._seen)
                await asyncio.sleep(0)
            if self._kind == "tool" and MIRRORING in data:
                await SDK.load()
            item = self._item(data)
            if item is not None:
                self._found.setdefault(item.name, item)
        return True

    def _item(self, raw: bytes) -> Item | None:
        """Check and repair one entry. Returns None for an omitted one."""
        definition: Any = None
        try:
            if len(raw) > MAX_ENTRY:
                raise Unusable(f"it has more than {MAX_ENTRY} bytes")
            definition = jsonrpc.value(raw)
            allowed = without_reserved(raw)
            if allowed is not raw:
                raw, definition = allowed, jsonrpc.value(allowed)
                text = f"{self._entry(definition)}: keys of its _meta that only the gateway may set are removed"
                self._warn_of_entry(text)
            faults = repair(self._kind, definition)
            headers = _mirrored(definition) if self._kind == "tool" and MIRRORING in raw else {}
        except (RpcError, Unusable) as problem:
            self._warn_of_entry(f"{self._entry(definition)} is left out: {problem}")
            return None
        if faults:
            raw = jsonrpc.encode(definition)
            members = ", ".join(faults)
            self._warn_of_entry(f"{self._entry(definition)} is repaired; malformed members: {members}")
        name = definition[NAME_KEYS[self._kind]]
        legacy = self._legacy(definition) if self._kind == "tool" else {}
        identity = _identity(self._kind, definition)
        return Item(self._kind, name, raw, identity, headers, legacy)

    def _legacy(self, definition: Mapping[str, Any]) -> Mapping[str, bytes | None]:
        members = legacy_members(definition)
        hidden = [name for name, value in members.items() if value is None and definition[name].get("type") == "object"]
        if hidden:
            self._warn_of_entry(
                f"{self._entry(definition)}: legacy agents do not see its {hidden[0]}, it does not compile"
            )
        return {name: None if value is None else jsonrpc.encode(value) for name, value in members.items()}

    def _entry(self, definition: Any) -> str:
        """The entry's name for warnings, or its number if it has no name."""
        name = definition.get(NAME_KEYS[self._kind]) if isinstance(definition, dict) else None
        if isinstance(name, str) and name:
            return f"{self._kind} {name[:MAX_NAME]!r} of upstream {self._upstream}"
        return f"{self._kind} number {self._seen} of upstream {self._upstream}"


def _mirrored(definition: Mapping[str, Any]) -> Mapping[tuple[str, ...], str]:
    """The parameters of a tool that headers mirror. Raises `Unusable`.

    An invalid annotation excludes only that tool, not the list (transports/streamable-http, Schema Extension).
    """
    from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map  # noqa: PLC0415 - see `SDK`

    invalid = find_invalid_x_mcp_header(definition["inputSchema"])
    if invalid is not None:
        raise Unusable(invalid)
    return x_mcp_header_map(definition["inputSchema"])


_IDENTITY_KEYS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "tool": ("inputSchema", "outputSchema"),
    "prompt": ("arguments",),
    "resource": ("name", "mimeType", "size"),
    "template": ("name", "mimeType"),
}


def _identity(kind: Kind, definition: Mapping[str, Any]) -> str:
    """Digest of the parts, as canonical JSON, that are equal in two replicas with the same name."""
    parts = json.dumps([definition.get(key) for key in _IDENTITY_KEYS[kind]], sort_keys=True)
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
