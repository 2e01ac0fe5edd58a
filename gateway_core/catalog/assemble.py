"""Builds snapshots from fetched lists: publishes all kinds, prepares list pages, rewrites links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace as _replace
from typing import Final

from gateway_core.api import Kind, Tool
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Lists
from gateway_core.catalog.naming import Names
from gateway_core.catalog.owners import Owners
from gateway_core.catalog.publish import FetchedByUpstream, Published, Resolver, Rules, publish
from gateway_core.catalog.replicas import Lookalikes, ReplicaRule, replica_sets
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.catalog.uris.links import links_to_interface, published_definition, scheme_of
from gateway_core.catalog.uris.templates import Effort, Templates
from gateway_core.config import ProxyConfig
from gateway_core.limits.slices import Slices, mapped
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, Item
from gateway_core.upstream.upstream import Upstream

_URIS: Final[tuple[Kind, ...]] = ("resource", "template")


class Assembler:
    """Builds snapshots by the rules of the configuration."""

    def __init__(self, config: ProxyConfig, resolve: Resolver, lists: Lists, owners: Owners) -> None:
        self._resolve = resolve
        self._lists = lists
        names = Names(owners.generations, config.separator, config.names)
        self._rules = Rules(names, ReplicaRule(config), owners, config.separator)
        self._shared = not config.profiles
        """Whether all agents may get the same list."""

    def whole(self, upstreams: Sequence[Upstream], all_fetched: FetchedByUpstream) -> Slices[Snapshot]:
        """The snapshot of `all_fetched`, in which upstreams that were never reached may be missing, in slices."""
        empty = Snapshot(
            upstreams={upstream.name: upstream for upstream in upstreams},
            all_fetched=all_fetched,
            private={one: found.private for one, found in all_fetched.items() if found.private},
            changes={one: one.published.changes for one, found in all_fetched.items() if found.private},
        )
        return (yield from self.renewed(empty, frozenset(LIST_METHODS), all_fetched))

    def renewed(
        self, base: Snapshot, kinds: frozenset[Kind], all_fetched: FetchedByUpstream, owner: str = ""
    ) -> Slices[Snapshot]:
        """`base` with these kinds rebuilt from `all_fetched`, in slices. `owner`: their principal; empty for all."""
        if kinds & {"resource", "template"} and any(links_to_interface(entry.raw) for entry in base.tools.values()):
            kinds |= {"tool"}  # tools may link to resources
        published: dict[Kind, Published] = {}
        for kind in LIST_METHODS:
            if kind in kinds:
                published[kind] = yield from publish(kind, all_fetched, self._resolve, self._rules)
        entries = {kind: published[kind].entries if kind in published else base.entries(kind) for kind in LIST_METHODS}
        matched = (yield from Templates.of(entries["template"])) if "template" in kinds else base.matched
        resources = entries["resource"]
        by_owner = (yield from _by_owner(resources)) if "resource" in kinds else base.resources_by_owner
        values = {kind: found.values() for kind, found in entries.items()}
        schemes = yield from _schemes(all_fetched)
        snapshot = _replace(
            base,
            prompts=entries["prompt"],
            resources=resources,
            templates=entries["template"],
            matched=matched,
            resources_by_owner=by_owner,
            linking=schemes if len(schemes) > 1 else {},
            schemes=schemes,
            awaited={**base.awaited, **{kind: outcome.awaited for kind, outcome in published.items()}},
            replicas=(yield from replica_sets(values, self._rules.replicas)),
            lookalikes=_lookalikes(published.values()),
            decisions=tuple(decision for outcome in published.values() for decision in outcome.decisions),
            warnings=(*(warning for outcome in published.values() for warning in outcome.warnings), *matched.warnings),
        )
        if "tool" in kinds:
            if snapshot.linking:
                efforts = {upstream: Effort() for upstream in snapshot.upstreams}
                tools = entries["tool"]
                linked = yield from mapped(lambda entry: _linked(entry, snapshot, efforts), tools.values())
                entries["tool"] = dict(zip(tools, linked, strict=True))
            tools_by_owner = yield from _by_owner(entries["tool"])
            snapshot = _replace(snapshot, tools=entries["tool"], tools_by_owner=tools_by_owner)
        complete = sum(not fetched.remembered for fetched in all_fetched.values()) == len(base.upstreams)
        hints = {kind: _hint(kind, all_fetched, complete=complete) for kind in kinds}
        if not self._shared:
            hints = {kind: Hint(hint.ttl_ms) for kind, hint in hints.items()}
        chosen = {kind: entries[kind] for kind in LIST_METHODS if kind in kinds}
        made = yield from self._lists.listings(chosen, hints, owner)
        return _replace(snapshot, listings={**base.listings, **made})


def _lookalikes(outcomes: Iterable[Published]) -> tuple[Lookalikes, ...]:
    pairs: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        for pair, names in outcome.lookalikes.items():
            pairs.setdefault(pair, []).extend(names)
    return tuple(Lookalikes(pair, tuple(names)) for pair, names in pairs.items())


def _by_owner(entries: Mapping[str, Entry]) -> Slices[dict[tuple[str, str], Entry]]:
    found: dict[tuple[str, str], Entry] = {}

    def add(entry: Entry) -> None:
        for upstream in entry.upstreams:
            found[upstream.name, entry.original] = entry

    yield from mapped(add, entries.values())
    return found


def _schemes(all_fetched: FetchedByUpstream) -> Slices[Mapping[str, frozenset[str]]]:
    schemes: dict[str, frozenset[str]] = {}
    for upstream, fetched in all_fetched.items():
        items = [item for kind in _URIS for item in fetched.of(kind)]
        if items:
            schemes[upstream.name] = frozenset((yield from mapped(_scheme, items)))
    return schemes


def _scheme(item: Item) -> str:
    return scheme_of(item.name)


def _linked(entry: Entry, snapshot: Snapshot, efforts: Mapping[str, Effort]) -> Entry:
    """The entry of a tool, with the URI of its user interface (MCP Apps) as agents know it."""
    assert entry.tool is not None
    owner = entry.upstreams[0].name
    raw = published_definition(entry.raw, lambda uri: snapshot.published_uri(owner, uri, effort=efforts[owner]))
    if raw is entry.raw:
        return entry
    return _replace(entry, raw=raw, tool=Tool(entry.tool.name, entry.tool.original_name, raw, entry.tool.upstreams))


def _hint(kind: Kind, all_fetched: FetchedByUpstream, *, complete: bool) -> Hint:
    """The cache hint of a merged list: the shortest lifetime and the most private scope of its parts.

    The lifetime is 0 while the list of any upstream is missing.
    """
    merged: Hint | None = None
    for fetched in all_fetched.values():
        complete = complete and kind not in fetched.failures
        if kind in fetched.items and not fetched.remembered:
            hint = fetched.hints.get(kind, Hint())
            merged = hint if merged is None else merged.merged(hint)
    if merged is None:
        return Hint()
    return merged if complete else merged.merged(Hint(0, public=True))
