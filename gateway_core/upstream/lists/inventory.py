"""What one upstream offers: its tools, resources, templates and prompts, as last fetched from it.

An `Item` keeps the definition both as the bytes that came (they go to agents unchanged unless its name changes, or
strict clients would refuse them) and decoded. `Item.identity` is what two upstreams must share to count as replicas of
one thing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from gateway_core.api import Kind
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
    """One definition that an upstream sent."""

    kind: Kind
    name: str
    """A tool's or prompt's name, a resource's URI, a template's URI template."""
    raw: bytes
    definition: Mapping[str, Any]
    identity: str
    header_map: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Property path of a tool's parameter -> name of the `Mcp-Param-*` header that mirrors it (SEP-2243)."""
    legacy: Mapping[str, bytes | None] = field(default_factory=dict)
    """The members that legacy agents see otherwise, as JSON; None: they do not see that member."""


@dataclass(frozen=True, slots=True)
class FetchedList:
    """One list as an upstream sent it."""

    items: tuple[Item, ...]
    hint: Hint = field(default_factory=Hint)
    warnings: tuple[str, ...] = ()
    """What was repaired or left out; bounded in number."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """All that one upstream offers, in its own order, and for how long it vouches for it."""

    items: Mapping[Kind, tuple[Item, ...]] = field(default_factory=dict)
    hints: Mapping[Kind, Hint] = field(default_factory=dict)
    """What a modern server said about each list; a legacy server says nothing."""
    notes: Mapping[Kind, tuple[str, ...]] = field(default_factory=dict)
    """What was repaired or left out of each list."""
    failures: Mapping[Kind, str] = field(default_factory=dict)
    """The lists that could not be fetched when they were last asked for, and why. `items` has what was known before."""
    remembered: bool = False
    """Whether these are names that it offered to an earlier process, without definitions."""
    _positions: Mapping[Kind, Mapping[str, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        index = {kind: {item.name: number for number, item in enumerate(found)} for kind, found in self.items.items()}
        object.__setattr__(self, "_positions", index)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing of it, or was repaired, for people."""
        return (*self.failures.values(), *chain.from_iterable(self.notes.values()))

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
        return Inventory(items, hints, failures=self.failures)

    def with_list(self, kind: Kind, fetched: FetchedList, *, hinted: bool) -> Inventory:
        """The same with a list as it was just fetched. `hinted`: the server is one whose hints count."""
        return Inventory(
            {**self.items, kind: fetched.items},
            {**self.hints, kind: fetched.hint} if hinted else self.hints,
            {**self.notes, kind: fetched.warnings},
            {failed: why for failed, why in self.failures.items() if failed != kind},
        )

    def with_failure(self, kind: Kind, reason: str) -> Inventory:
        """The same after a list could not be fetched."""
        return Inventory(self.items, self.hints, self.notes, {**self.failures, kind: reason})

    def only(self, kinds: Collection[Kind]) -> Inventory:
        """The same with nothing but the lists of these kinds."""
        return Inventory(
            {kind: found for kind, found in self.items.items() if kind in kinds},
            {kind: hint for kind, hint in self.hints.items() if kind in kinds},
            {kind: notes for kind, notes in self.notes.items() if kind in kinds},
            {kind: why for kind, why in self.failures.items() if kind in kinds},
        )

    def sharing(self, known: Inventory) -> Inventory:
        """The same, with the very lists of `known` where they are equal: most callers get what all others get."""
        items = {
            kind: known.of(kind) if [item.raw for item in found] == [item.raw for item in known.of(kind)] else found
            for kind, found in self.items.items()
        }
        return Inventory(items, self.hints, self.notes, self.failures)

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
