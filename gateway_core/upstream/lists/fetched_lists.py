"""The fetched lists of one upstream: tools, resources, templates and prompts.

An `Item` keeps the definition as the received bytes. Agents get these bytes unless the name changes or
strict clients would reject them. Two upstreams whose items share name and `Item.identity` count as replicas.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from gateway_core.api import Kind
from gateway_core.limits.accounts import Holding
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.cache_hints import Hint
from gateway_core.mcp.names import MCP_PARAM_HEADER_PREFIX

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
    """One definition from an upstream."""

    kind: Kind
    name: str
    """A tool's or prompt's name, a resource's URI, a template's URI template."""
    raw: bytes
    """The definition as agents of modern revisions get it under this name; empty for a remembered name."""
    identity: str
    header_map: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Property path of a tool's parameter -> name, after `Mcp-Param-`, of the header that mirrors it (SEP-2243)."""
    legacy: Mapping[str, bytes | None] = field(default_factory=dict)
    """Members that differ for legacy agents, as JSON; None: legacy agents do not get that member."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """The decoded definition, read-only. It is not kept: decoded, it can take thirty times as much memory."""
        found: Mapping[str, Any] = jsonrpc.value(self.raw, frozen=True) if self.raw else {}
        return found


@dataclass(frozen=True, slots=True)
class FetchedList:
    """One list fetched from an upstream, checked and repaired."""

    items: tuple[Item, ...]
    hint: Hint = field(default_factory=Hint)
    warnings: tuple[str, ...] = ()
    """Descriptions of repaired or omitted entries; bounded in number."""
    holding: Holding | None = field(default=None, compare=False)
    """Counts the list against the memory budget."""


@dataclass(frozen=True, slots=True)
class FetchedLists:
    """All fetched lists of one upstream, in its order, with their cache hints."""

    items: Mapping[Kind, tuple[Item, ...]] = field(default_factory=dict)
    hints: Mapping[Kind, Hint] = field(default_factory=dict)
    """The cache hint of each list of a modern server; empty for a legacy server."""
    notes: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    """Descriptions of repaired or omitted entries of each list."""
    failures: Mapping[Kind, str] = field(default_factory=dict)
    """The lists whose last fetch failed, with the reason. `items` keeps their last known entries."""
    remembered: bool = False
    """Whether these are only names, without definitions, that an earlier process had fetched."""
    last_known: bool = False
    """Whether an earlier process fetched them, for the gateway itself. Until the server is reached, all agents see
    them."""
    holdings: Mapping[Kind, Holding | None] = field(default_factory=dict, compare=False, repr=False)
    """What counts each list against the memory budget."""
    ttl_ms: int = field(init=False, repr=False, compare=False)
    """The shortest lifetime of the lists in milliseconds; 0 if any declares none."""
    _positions: Mapping[Kind, Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {kind: {item.name: number for number, item in enumerate(found)} for kind, found in self.items.items()}
        object.__setattr__(self, "_positions", index)
        object.__setattr__(self, "ttl_ms", min((hint.ttl_ms for hint in self.hints.values()), default=0))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Texts for operators about missing lists and repaired or omitted entries."""
        return (*self.failures.values(), *chain.from_iterable(self.notes.values()))

    @property
    def private(self) -> frozenset[Kind]:
        """The lists that may differ between callers, per their cache scope."""
        if self.last_known:
            return frozenset()
        return frozenset(kind for kind, hint in self.hints.items() if not hint.public)

    def with_private(self, own: FetchedLists) -> FetchedLists:
        """A copy with one principal's private lists in place of the gateway's."""
        items = {kind: own.of(kind) if kind in self.private else found for kind, found in self.items.items()}
        hints = {kind: own.hints.get(kind, Hint()) if not hint.public else hint for kind, hint in self.hints.items()}
        return FetchedLists(items, hints, failures=self.failures)

    def with_list(self, kind: Kind, fetched: FetchedList, *, hinted: bool) -> FetchedLists:
        """A copy with a newly fetched list. `hinted`: keep its cache hint, because the server is modern."""
        return FetchedLists(
            {**self.items, kind: fetched.items},
            {**self.hints, kind: fetched.hint} if hinted else self.hints,
            {**self.notes, kind: fetched.warnings},
            {failed: why for failed, why in self.failures.items() if failed != kind},
            holdings={**self.holdings, kind: fetched.holding},
        )

    def with_failure(self, kind: Kind, reason: str) -> FetchedLists:
        """A copy that records a failed fetch of one list."""
        return replace(self, failures={**self.failures, kind: reason}, remembered=False)

    def report(self, upstream: str, kind: Kind, what: str, reason: str) -> str:
        """The text for operators about a list that was not fetched. `what`: "failed", "is skipped"."""
        kept = "its last known entries stay" if kind in self.items else "it counts as empty"
        return f"{LIST_METHODS[kind]} of upstream {upstream} {what}, {kept}: {reason}"

    def only(self, kinds: Collection[Kind]) -> FetchedLists:
        """A copy with only the lists of these kinds."""
        return FetchedLists(
            {kind: found for kind, found in self.items.items() if kind in kinds},
            {kind: hint for kind, hint in self.hints.items() if kind in kinds},
            {kind: notes for kind, notes in self.notes.items() if kind in kinds},
            {kind: why for kind, why in self.failures.items() if kind in kinds},
            holdings={kind: held for kind, held in self.holdings.items() if kind in kinds},
        )

    def with_remembered(self, earlier: FetchedLists) -> FetchedLists:
        """A copy with the remembered names of lists that were never fetched because each fetch failed."""
        missing = {
            kind: earlier.items[kind] for kind in self.failures if kind in earlier.items and kind not in self.items
        }
        return replace(self, items={**self.items, **missing}, remembered=False) if missing else self

    def sharing(self, known: FetchedLists) -> FetchedLists:
        """A copy that shares the tuples of `known` where the lists are equal, as most callers get the same lists."""
        items = {
            kind: known.of(kind) if [item.raw for item in found] == [item.raw for item in known.of(kind)] else found
            for kind, found in self.items.items()
        }
        shared = {kind for kind, found in items.items() if found is known.of(kind)}
        held = {kind: (known if kind in shared else self).holdings.get(kind) for kind in items}
        return replace(self, items=items, remembered=False, holdings=held)

    def other_than(self, shared: FetchedLists) -> list[Kind]:
        """The private lists that differ from those of `shared`. Requires a copy made by `sharing(shared)`."""
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
        """Name -> position in the upstream's order."""
        return self._positions.get(kind, {})

    def param_headers(self, params: Mapping[str, Any], given: Sequence[tuple[str, str]]) -> dict[str, str] | None:
        """`Mcp-Param-*` headers of a `tools/call`: the agent's, and the parameters that its tool mirrors from the body.

        For mirrored parameters the body alone decides, also that a header is absent: the server rejects a header that
        contradicts the body (transports/streamable-http, Server Validation).
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
                from mcp.shared.inbound import mcp_param_headers  # noqa: PLC0415 - see `SDK`

                headers |= mcp_param_headers(item.header_map, arguments)
        return headers or None


def header_names(header_map: Mapping[tuple[str, ...], str]) -> frozenset[str]:
    """The names of the headers that mirror a tool's parameters, in lower case."""
    return frozenset(f"{MCP_PARAM_HEADER_PREFIX}{token}".lower() for token in header_map.values())
