"""What one upstream offers: its tools, resources, templates and prompts, as last fetched from it.

An `Item` keeps the definition both as the bytes that came (they go to agents unchanged unless its name changes) and
decoded. `Item.identity` is what two upstreams must share to count as replicas of one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.errors import INTERNAL_ERROR, METHOD_NOT_FOUND, DeliveryError, RpcError
from gateway_core.protocol import MCP_PARAM_HEADER_PREFIX
from gateway_core.types import Era, Kind
from gateway_core.upstream.base import ServerInfo
from gateway_core.upstream.hints import Hint, hint_of
from gateway_core.upstream.requests import Reply

MAX_PAGES: Final = 64
MAX_ITEMS: Final = 10_000
"""Where a list that never ends is cut."""

LIST_METHODS: Final[Mapping[Kind, str]] = {
    "tool": "tools/list",
    "resource": "resources/list",
    "template": "resources/templates/list",
    "prompt": "prompts/list",
}
NAME_KEYS: Final[Mapping[Kind, str]] = {"tool": "name", "resource": "uri", "template": "uriTemplate", "prompt": "name"}
RESULT_KEYS: Final[Mapping[Kind, str]] = {
    "tool": "tools",
    "resource": "resources",
    "template": "resourceTemplates",
    "prompt": "prompts",
}
CAPABILITY: Final[Mapping[Kind, str]] = {
    "tool": "tools",
    "resource": "resources",
    "template": "resources",
    "prompt": "prompts",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One definition that an upstream sent."""

    kind: Kind
    name: str
    """A tool's or prompt's name, a resource's URI, a template's URI template."""
    raw: bytes
    definition: Mapping[str, Any]
    identity: str
    header_map: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Property path of a tool's parameter -> name of the `Mcp-Param-*` header that mirrors it (SEP-2243)."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that one upstream offers, in its own order, and for how long it vouches for it."""

    items: Mapping[Kind, tuple[Item, ...]] = field(default_factory=dict)
    hints: Mapping[Kind, Hint] = field(default_factory=dict)
    """What a modern server said about each list; a legacy server says nothing."""
    warnings: tuple[str, ...] = ()
    remembered: bool = False
    """Whether these are names that it offered to an earlier process, without definitions."""
    _positions: Mapping[Kind, Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {kind: {item.name: number for number, item in enumerate(found)} for kind, found in self.items.items()}
        object.__setattr__(self, "_positions", index)

    @property
    def private(self) -> frozenset[Kind]:
        """The lists that the server gives each caller for itself."""
        return frozenset(kind for kind, hint in self.hints.items() if not hint.public)

    @property
    def ttl_ms(self) -> int:
        """For how long it vouches for all of it; 0 when it does not."""
        return min((hint.ttl_ms for hint in self.hints.values()), default=0)

    def with_private(self, own: Inventory) -> Inventory:
        """The same, with the private lists of one principal in place of the gateway's."""
        items = {kind: own.of(kind) if kind in self.private else found for kind, found in self.items.items()}
        hints = {kind: own.hints.get(kind, Hint()) if not hint.public else hint for kind, hint in self.hints.items()}
        return Inventory(items, hints)

    def sharing(self, known: Inventory) -> Inventory:
        """The same, with the very lists of `known` where they are equal: most callers get what all others get."""
        items = {
            kind: known.of(kind) if [item.raw for item in found] == [item.raw for item in known.of(kind)] else found
            for kind, found in self.items.items()
        }
        return Inventory(items, self.hints, self.warnings)

    def other_than(self, shared: Inventory) -> list[Kind]:
        """Which of these private lists, `sharing` those of `shared`, are not the same as those."""
        return [
            kind
            for kind in shared.private
            if self.of(kind) is not shared.of(kind) or self.hints.get(kind) != shared.hints[kind]
        ]

    def of(self, kind: Kind) -> tuple[Item, ...]:
        return self.items.get(kind, ())

    def find(self, kind: Kind, name: str) -> Item | None:
        position = self.positions(kind).get(name)
        return None if position is None else self.items[kind][position]

    def positions(self, kind: Kind) -> Mapping[str, int]:
        """Name -> place in the upstream's own order."""
        return self._positions.get(kind, {})

    def param_headers(self, params: Mapping[str, Any], given: Sequence[tuple[str, str]]) -> dict[str, str] | None:
        """`Mcp-Param-*` headers of a `tools/call`: those the agent gave, and those that its tool mirrors from the body.

        The body decides about the latter, also that there is none: a header that contradicts it would be refused
        (transports/streamable-http, Server Validation).
        """
        item = self.find("tool", params["name"])
        if not given and (item is None or not item.header_map):
            return None
        headers = dict(given)
        if item is not None and item.header_map:
            mirrored = header_names(item.header_map)
            headers = {name: value for name, value in headers.items() if name.lower() not in mirrored}
            arguments = jsonrpc.value(params.get("arguments", jsonrpc.EMPTY_OBJECT))
            if isinstance(arguments, dict):
                from mcp.shared.inbound import mcp_param_headers  # noqa: PLC0415 - loaded already

                headers |= mcp_param_headers(item.header_map, arguments)
        return headers or None


def header_names(header_map: Mapping[tuple[str, ...], str]) -> frozenset[str]:
    """The headers that a tool's parameters are mirrored in, in lower case."""
    return frozenset(f"{MCP_PARAM_HEADER_PREFIX}{token}".lower() for token in header_map.values())


class _Page(msgspec.Struct, rename="camel"):
    tools: list[Raw] = []
    resources: list[Raw] = []
    resource_templates: list[Raw] = []
    prompts: list[Raw] = []
    next_cursor: str | None = None
    result_type: Any = "complete"
    ttl_ms: Any = None
    cache_scope: Any = None

    def entries(self, kind: Kind) -> list[Raw]:
        by_kind = {
            "tool": self.tools,
            "resource": self.resources,
            "template": self.resource_templates,
            "prompt": self.prompts,
        }
        return by_kind[kind]


_PAGE: Final = msgspec.json.Decoder(_Page)

Send = Callable[[str, Mapping[str, Any]], Awaitable[Reply]]


async def fetch(
    upstream: str,
    send: Send,
    info: ServerInfo,
    wanted_tools: tuple[str, ...] | None,
    kinds: Collection[Kind] = tuple(LIST_METHODS),
) -> Inventory:
    """Fetch every list that the server's capabilities announce, of those `kinds`.

    `wanted_tools` are the only tools kept, when given. A list that is too long, or that breaks in the middle, is kept
    as far as it came, with a warning. Raises `DeliveryError` or `RpcError` when the first page cannot be had.
    """
    return await _Fetch(upstream, send, info.era).run(info, wanted_tools, kinds)


class _Fetch:
    """One walk over all lists of one upstream."""

    def __init__(self, upstream: str, send: Send, era: Era) -> None:
        self._upstream = upstream
        self._era = era
        self._send = send
        self._warnings: list[str] = []
        self._hints: dict[Kind, Hint] = {}

    async def run(self, info: ServerInfo, wanted_tools: tuple[str, ...] | None, kinds: Collection[Kind]) -> Inventory:
        items: dict[Kind, tuple[Item, ...]] = {}
        for kind in LIST_METHODS:
            if kind not in kinds or CAPABILITY[kind] not in info.capabilities:
                continue
            found = await self._list(kind)
            if kind == "tool" and wanted_tools is not None:
                found = self._wanted(found, wanted_tools)
            items[kind] = tuple(found)
        # A member of that name in a legacy server's answer is none of the protocol's.
        return Inventory(items, self._hints if self._era == "modern" else {}, tuple(self._warnings))

    def _wanted(self, found: list[Item], wanted: tuple[str, ...]) -> list[Item]:
        missing = set(wanted) - {item.name for item in found}
        if missing:
            names = ", ".join(sorted(missing))
            self._warnings.append(f"upstream {self._upstream} does not have what its key `tools` asks for: {names}")
        return [item for item in found if item.name in wanted]

    async def _list(self, kind: Kind) -> list[Item]:
        """All pages of one list, bounded by `MAX_PAGES` and `MAX_ITEMS`: some cursors never end."""
        method = LIST_METHODS[kind]
        found: dict[str, Item] = {}
        cursors: set[str] = set()
        params: dict[str, Any] = {}
        endless = False
        for _ in range(MAX_PAGES):
            try:
                page = await self._page(kind, params)
            except (DeliveryError, RpcError) as error:
                if not found:
                    raise
                self._warnings.append(f"{method} of upstream {self._upstream} broke off after {len(found)}: {error}")
                break
            if page is None:
                break
            for raw in page.entries(kind):
                item = self._item(kind, bytes(raw))
                if item is not None:
                    found.setdefault(item.name, item)
            cursor = page.next_cursor
            if cursor is None:
                break
            if cursor in cursors or len(found) >= MAX_ITEMS:
                endless = True
                break
            cursors.add(cursor)
            params = {"cursor": cursor}
        else:
            endless = True
        kept = list(found.values())[:MAX_ITEMS]
        if endless or len(kept) < len(found):
            what = f"does not end, or is too long: kept the first {len(kept)} entries"
            self._warnings.append(f"{method} of upstream {self._upstream} {what}")
        return kept

    async def _page(self, kind: Kind, params: Mapping[str, Any]) -> _Page | None:
        method = LIST_METHODS[kind]
        reply = await self._send(method, params)
        if reply.error is not None:
            if reply.error.code == METHOD_NOT_FOUND:  # announced, yet not there: servers do this with templates
                return None
            raise reply.error
        try:
            page = _PAGE.decode(reply.result)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RpcError(INTERNAL_ERROR, f"its answer to {method} is malformed: {error}") from None
        if self._era == "modern" and page.result_type != "complete":
            raise RpcError(INTERNAL_ERROR, f"its answer to {method} is invalid: it is not complete")
        hint = hint_of(page.ttl_ms, page.cache_scope)
        self._hints[kind] = self._hints[kind].merged(hint) if kind in self._hints else hint
        return page

    def _item(self, kind: Kind, raw: bytes) -> Item | None:
        try:
            definition = jsonrpc.value(raw)
        except RpcError as error:
            self._warnings.append(f"upstream {self._upstream} offers a malformed {kind}: {error.message}")
            return None
        name = definition.get(NAME_KEYS[kind]) if isinstance(definition, dict) else None
        if not isinstance(name, str) or not name:
            self._warnings.append(f"upstream {self._upstream} offers a {kind} without {NAME_KEYS[kind]!r}")
            return None
        header_map: Mapping[tuple[str, ...], str] = {}
        if kind == "tool" and b"x-mcp-header" in raw:
            from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map  # noqa: PLC0415 - 0.5 s

            # One bad annotation costs that tool only, never the list (transports/streamable-http, Schema Extension).
            invalid = find_invalid_x_mcp_header(definition.get("inputSchema"))
            if invalid is not None:
                self._warnings.append(f"tool {name!r} of upstream {self._upstream} is left out: {invalid}")
                return None
            header_map = x_mcp_header_map(definition.get("inputSchema"))
        return Item(kind, name, raw, definition, _identity(kind, definition), header_map)


_IDENTITY_KEYS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "tool": ("inputSchema", "outputSchema"),
    "prompt": ("arguments",),
    "resource": ("name", "mimeType", "size"),
    "template": ("name", "mimeType"),
}


def _identity(kind: Kind, definition: Mapping[str, Any]) -> str:
    """Digest of the parts that make two definitions of one name the same thing, as canonical JSON."""
    parts = json.dumps([definition.get(key) for key in _IDENTITY_KEYS[kind]], sort_keys=True)
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
