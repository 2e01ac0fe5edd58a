"""Makes the snapshot of a profile from the gateway's snapshot, or from that of one principal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Final

import msgspec

from gateway_core.api import Kind
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Lists
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.profiles.profile import Profile
from gateway_core.catalog.replicas import ReplicaSet
from gateway_core.catalog.snapshot import Decision, Snapshot, Target
from gateway_core.catalog.uris.links import links_to_interface, published_definition
from gateway_core.catalog.uris.templates import Templates
from gateway_core.limits.slices import Slices, mapped
from gateway_core.mcp.cache_hints import Hint
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS

_TTL: Final = "ttlMs"


class _Admitted(msgspec.Struct, frozen=True, eq=False):
    """Decides about resources that no list has, see `Admission`."""

    profile: Profile
    interfaces: Set[str]
    """The URIs of the user interfaces of the visible tools."""

    def admits(self, uri: str, target: Target, *, by_template: bool) -> bool:
        return uri in self.interfaces or self.profile.admits(uri, target, by_template=by_template)


def narrowed(base: Snapshot, profile: Profile, lists: Lists, owner: str = "") -> Slices[Snapshot]:
    """The snapshot of a profile, in slices. `owner`: the principal that `base` belongs to; empty for all."""
    visible: dict[Kind, list[Entry]] = {}
    for kind in LIST_METHODS:
        held = base.held(kind).values()
        shown = yield from mapped(profile.shows, held)
        visible[kind] = [entry for entry, is_shown in zip(held, shown, strict=True) if is_shown]
    names, warnings = yield from _named(profile, visible["tool"])
    shaped = yield from mapped(lambda pair: profile.shaped(*pair), zip(visible["tool"], names, strict=True))
    visible["tool"] = shaped
    interfaces = yield from _interfaces(shaped)
    known = {entry.name for entry in visible["resource"]}
    visible["resource"] += [
        base.resources[uri] for uri in sorted(interfaces) if uri in base.resources and uri not in known
    ]
    entries, awaited = _by_name(visible, has_raw=True), _by_name(visible, has_raw=False)
    matched = yield from Templates.of(entries["template"])
    admission = _Admitted(profile, interfaces)
    offering = {upstream.name for found in visible.values() for entry in found for upstream in entry.upstreams}
    upstreams = {
        name: upstream
        for name, upstream in base.upstreams.items()
        if name in offering or (profile.has_resources and "resources" in upstream.capabilities)
    }
    by_owner = {(upstream.name, entry.original): entry for entry in shaped for upstream in entry.upstreams}
    # Caches must not share the list with agents of other profiles at the same address.
    hints = {
        kind: Hint(base.listings[method, "modern"].members[_TTL]) if (method, "modern") in base.listings else Hint()
        for kind, method in LIST_METHODS.items()
    }
    listings = yield from lists.listings(entries, hints, owner, profile.name)
    published = {kind: {entry.published for entry in found} for kind, found in visible.items()}
    concerned = yield from mapped(lambda decision: _concerns(decision, published), base.decisions)
    return replace(
        base,
        tools=entries["tool"],
        prompts=entries["prompt"],
        resources=entries["resource"],
        templates=entries["template"],
        matched=matched,
        tools_by_owner=by_owner,
        upstreams=upstreams,
        listings=listings,
        awaited=awaited,
        decisions=tuple(decision for decision, concerns in zip(base.decisions, concerned, strict=True) if concerns),
        replicas=_shared(base.replicas, published),
        warnings=tuple(warnings),
        admission=admission,
    )


def _concerns(decision: Decision, published: Mapping[Kind, Set[str]]) -> bool:
    """Whether an item that the profile shows got its name by this decision."""
    return any(name in published[decision.kind] for name, _ in decision.published)


def _shared(replicas: Iterable[ReplicaSet], published: Mapping[Kind, Set[str]]) -> tuple[ReplicaSet, ...]:
    """The replicas of items that the profile shows, without the others."""
    kept: list[ReplicaSet] = []
    for one in replicas:
        names = {kind: tuple(name for name in names if name in published[kind]) for kind, names in one.names.items()}
        if any(names.values()):
            kept.append(replace(one, names={kind: found for kind, found in names.items() if found}))
    return tuple(kept)


def _by_name(visible: Mapping[Kind, Iterable[Entry]], *, has_raw: bool) -> dict[Kind, dict[str, Entry]]:
    return {kind: {it.name: it for it in found if bool(it.raw) is has_raw} for kind, found in visible.items()}


def _named(profile: Profile, tools: list[Entry]) -> Slices[tuple[list[str], list[str]]]:
    """The name of each tool, and what happened to wishes that cannot be met.

    Tools that keep their name come first, so that no other tool can take it; then the others, in their order.
    """
    wishes = yield from mapped(profile.wish, tools)
    taken = {entry.name: entry for entry, wish in zip(tools, wishes, strict=True) if wish == entry.name}
    warnings: list[str] = []

    def name_of(pair: tuple[Entry, str]) -> str:
        entry, wish = pair
        if wish == entry.name:
            return wish
        holder = taken.get(wish)
        if holder is None:
            taken[wish] = entry
            return wish
        candidates = (entry.name, *(f"{wish[:120]}_{number}" for number in range(2, len(taken) + 4)))
        name = next(candidate for candidate in candidates if candidate not in taken)
        taken[name] = entry
        warnings.append(
            f"profile {profile.name}: tool {shortened(entry.published)!r} is published as {shortened(name)!r}: "
            f"the name {shortened(wish)!r} is taken by tool {shortened(holder.published)!r}"
        )
        return name

    names = yield from mapped(name_of, zip(tools, wishes, strict=True))
    return names, warnings


def _interfaces(tools: Iterable[Entry]) -> Slices[set[str]]:
    """The URIs of the user interfaces of tools (MCP Apps)."""
    found: set[str] = set()

    def add(entry: Entry) -> None:
        def note(uri: str) -> str:
            found.add(uri)
            return uri

        if links_to_interface(entry.raw):
            published_definition(entry.raw, note)

    yield from mapped(add, tools)
    return found
