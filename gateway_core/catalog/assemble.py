"""From what is offered to a whole snapshot: all kinds published, lists made ready, links followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as _replace

from gateway_core.catalog.entry import Entry
from gateway_core.catalog.links import published_definition
from gateway_core.catalog.lists import Lists
from gateway_core.catalog.publish import Offers, Published, Resolver, publish
from gateway_core.catalog.snapshot import Snapshot, TemplateMatch, template_pattern
from gateway_core.config import ProxyConfig
from gateway_core.jsonrpc import value
from gateway_core.types import Kind
from gateway_core.upstream.hints import Hint
from gateway_core.upstream.inventory import LIST_METHODS
from gateway_core.upstream.upstream import Upstream


def assemble(
    config: ProxyConfig,
    upstreams: Sequence[Upstream],
    offers: Offers,
    resolve: Resolver,
    lists: Lists,
    *,
    owner: str = "",
) -> Snapshot:
    """The snapshot of `offers`, which may lack some of the `upstreams`: those that were never reached.

    `owner` is the principal that it is made for, empty for everybody.
    """
    published: dict[Kind, Published] = {
        kind: publish(
            kind,
            offers,
            resolve,
            separator=config.separator,
            declared_only=config.replicas == "declared",
        )
        for kind in LIST_METHODS
    }
    templates = published["template"].entries
    snapshot = Snapshot(
        tools=published["tool"].entries,
        prompts=published["prompt"].entries,
        resources=published["resource"].entries,
        templates=templates,
        patterns=_patterns(templates),
        tools_by_owner=_by_owner(published["tool"]),
        resources_by_owner=_by_owner(published["resource"]),
        upstreams={upstream.name: upstream for upstream in upstreams},
        private={one: found.private for one, found in offers.items() if found.private},
        changes={one: one.offer.changes for one, found in offers.items() if found.private},
        linking=_linking(offers),
        decisions=tuple(decision for outcome in published.values() for decision in outcome.decisions),
        warnings=tuple(warning for outcome in published.values() for warning in outcome.warnings),
    )
    if snapshot.linking:
        tools = {name: _linked(entry, snapshot) for name, entry in snapshot.tools.items()}
        published["tool"].entries = tools
        snapshot = _replace(snapshot, tools=tools, tools_by_owner=_by_owner(published["tool"]))
    entries = {kind: outcome.entries for kind, outcome in published.items()}
    hints = {kind: _hint(kind, offers, complete=len(offers) == len(upstreams)) for kind in LIST_METHODS}
    return _replace(snapshot, listings=lists.listings(entries, hints, owner))


def _patterns(templates: Mapping[str, Entry]) -> tuple[TemplateMatch, ...]:
    pairs = ((entry, template_pattern(entry.original)) for entry in templates.values())
    found = [TemplateMatch(entry, pattern) for entry, pattern in pairs if pattern is not None]
    return tuple(sorted(found, key=lambda match: not match.mark))


def _by_owner(published: Published) -> dict[tuple[str, str], Entry]:
    return {
        (upstream.name, entry.original): entry for entry in published.entries.values() for upstream in entry.upstreams
    }


def _linking(offers: Offers) -> frozenset[str]:
    owners = [
        upstream.name for upstream, inventory in offers.items() if inventory.of("resource") or inventory.of("template")
    ]
    return frozenset(owners) if len(owners) > 1 else frozenset()


def _linked(entry: Entry, snapshot: Snapshot) -> Entry:
    """A tool whose user interface (MCP Apps) has another URI for agents than for its upstream."""
    assert entry.tool is not None
    owner = entry.upstreams[0].name
    raw = published_definition(entry.raw, lambda uri: snapshot.published_uri(owner, uri))
    if raw is entry.raw:
        return entry
    return _replace(entry, raw=raw, tool=_replace(entry.tool, definition=value(raw)))


def _hint(kind: Kind, offers: Offers, *, complete: bool) -> Hint:
    """What a list vouches for: as long as its most short-lived part, as private as its most private one.

    Nothing for long while an upstream is missing that may turn up.
    """
    merged: Hint | None = None
    for inventory in offers.values():
        if kind in inventory.items:
            hint = inventory.hints.get(kind, Hint())
            merged = hint if merged is None else merged.merged(hint)
    if merged is None:
        return Hint()
    return merged if complete else merged.merged(Hint(0, public=True))
