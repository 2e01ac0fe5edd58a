"""From what the upstreams offer to published names: replicas joined, clashes decided, names made valid.

The order of everything is the file's: upstreams as listed, each upstream's own order within.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from gateway_core import jsonrpc
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.snapshot import Decision
from gateway_core.types import Claim, Kind, Tool, ToolConflict
from gateway_core.upstream.inventory import NAME_KEYS, Inventory, Item
from gateway_core.upstream.upstream import Upstream

MAX_NAME: Final = 128
_INVALID_CHARACTER: Final = re.compile(r"[^A-Za-z0-9._-]")

Resolver = Callable[[ToolConflict], Mapping[str, Claim] | None]
Offers = Mapping[Upstream, Inventory]
"""What each upstream offers to those that this is published for, in the file's order."""


@dataclass(slots=True)
class _Group:
    """Replicas of one thing, being collected."""

    item: Item
    upstreams: list[Upstream] = field(default_factory=list)

    def claim(self) -> Claim:
        return Claim(self.item.name, self.item.definition, tuple(upstream.view for upstream in self.upstreams))


@dataclass(slots=True)
class Published:
    """The outcome for one kind."""

    entries: dict[str, Entry] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def publish(kind: Kind, offers: Offers, resolve: Resolver, *, separator: str, declared_only: bool) -> Published:
    """Publish all items of one kind. `declared_only`: replicas must share a `group`."""
    claims = _collect(kind, offers, declared_only)
    wanted: list[tuple[str, _Group]] = []
    published = Published()
    for name, groups in claims.items():
        pairs = [(group.claim(), group) for group in groups]
        conflict = ToolConflict(kind, name, tuple(claim for claim, _ in pairs), separator)
        mapping = resolve(conflict)
        if mapping is None:
            mapping = {name: pairs[0][0]}
        for new_name, claim in mapping.items():
            wanted.append((_valid_name(kind, new_name, published.warnings), _group_of(claim, pairs)))
    _settle(kind, wanted, published)
    _explain(kind, claims, published)
    order = {upstream: number for number, upstream in enumerate(offers)}

    def position(pair: tuple[str, Entry]) -> tuple[int, int]:
        owner = pair[1].upstreams[0]
        return order[owner], offers[owner].positions(kind)[pair[1].original]

    # The same after every restart, whoever answered first.
    published.entries = dict(sorted(published.entries.items(), key=position))
    return published


def _collect(kind: Kind, offers: Offers, declared_only: bool) -> dict[str, list[_Group]]:
    claims: dict[str, list[_Group]] = {}
    for upstream, inventory in offers.items():
        for item in inventory.of(kind):
            groups = claims.setdefault(item.name, [])
            for group in groups:
                if group.item.identity == item.identity and _may_join(group.upstreams[0], upstream, declared_only):
                    group.upstreams.append(upstream)
                    break
            else:
                groups.append(_Group(item, [upstream]))
    return claims


def _may_join(first: Upstream, other: Upstream, declared_only: bool) -> bool:
    if not declared_only:
        return True
    return first.config.group is not None and first.config.group == other.config.group


def _group_of(claim: Claim, pairs: Sequence[tuple[Claim, _Group]]) -> _Group:
    """The group behind a claim that a plugin handed back, itself or as an equal copy."""
    return next(group for known, group in pairs if known is claim or known == claim)


def _settle(kind: Kind, wanted: Sequence[tuple[str, _Group]], published: Published) -> None:
    """Give out the names: what keeps its own name first, so that no prefixed one can take it."""
    for bare in (True, False):
        for name, group in wanted:
            if (name == group.item.name) is not bare:
                continue
            if name in published.entries:
                holder = published.entries[name]
                published.warnings.append(
                    f"{kind} {group.item.name!r} of {_names(group.upstreams)} is left out: its name {name!r} is taken "
                    f"by {holder.original!r} of {_names(holder.upstreams)}"
                )
                continue
            published.entries[name] = _entry(kind, name, group)


def _entry(kind: Kind, name: str, group: _Group) -> Entry:
    raw = group.item.raw
    definition = group.item.definition
    if name != group.item.name:
        key = NAME_KEYS[kind]
        members = jsonrpc.members(raw)
        members[key] = Raw(jsonrpc.encode(name))
        raw = jsonrpc.encode(members)
        definition = {**definition, key: name}
    upstreams = tuple(group.upstreams)
    tool = None
    if kind == "tool":
        tool = Tool(name, group.item.name, definition, tuple(upstream.name for upstream in upstreams))
    return Entry(kind, name, group.item.name, raw, upstreams, tool, group.item.header_map, group.item.legacy)


def _explain(kind: Kind, claims: Mapping[str, list[_Group]], published: Published) -> None:
    """Record how every clash ended, for people."""
    names = {(entry.original, entry.upstreams[0].name): entry.name for entry in published.entries.values()}
    for name, groups in claims.items():
        if len(groups) > 1:
            published.decisions.append(
                Decision(
                    kind,
                    name,
                    tuple(
                        (
                            names.get((name, group.upstreams[0].name)),
                            tuple(upstream.name for upstream in group.upstreams),
                        )
                        for group in groups
                    ),
                )
            )


def _valid_name(kind: Kind, name: str, warnings: list[str]) -> str:
    """A tool's or prompt's name as the specification allows it (server/tools, Tool Names); URIs are left alone."""
    if kind in {"resource", "template"}:
        return name
    valid = _INVALID_CHARACTER.sub("_", name)
    if len(valid) > MAX_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        valid = f"{valid[: MAX_NAME - 9]}_{digest}"
    if valid != name:
        warnings.append(f"{kind} {name!r} is published as {valid!r}: names are 1 to 128 of A-Z a-z 0-9 . _ -")
    return valid


def _names(upstreams: Sequence[Upstream]) -> str:
    return ", ".join(upstream.name for upstream in upstreams)
