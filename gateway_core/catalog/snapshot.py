"""One state of the catalog: published names, the upstreams that serve them, and encoded list results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as _replace
from typing import Protocol

import msgspec

from gateway_core.api import Era, Kind, Tool
from gateway_core.api.conflict import marked_uri, unmarked_uri
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Listing
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.replicas import Lookalikes, ReplicaSet
from gateway_core.catalog.uris.links import leads_elsewhere
from gateway_core.catalog.uris.templates import Effort, Templates
from gateway_core.limits.slices import SLICE, Slices, sliced
from gateway_core.mcp.preset import Preset
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists, Item
from gateway_core.upstream.upstream import Upstream
from gateway_core.upstream.user_logins.login_tool import is_login_tool, login_tool


class Target(msgspec.Struct, frozen=True):
    """The destination of a call: the upstreams that serve it, and their name for it."""

    original: str
    upstreams: tuple[Upstream, ...]
    tool: Tool | None = None
    mirrored: Mapping[tuple[str, ...], str] = {}
    """See `Entry.mirrored`."""
    preset: Preset | None = None
    """See `Entry.preset`."""

    @classmethod
    def of(cls, entry: Entry, upstreams: tuple[Upstream, ...] | None = None) -> Target:
        """The target of an entry. `upstreams`: those of its upstreams that the call may go to; None for all."""
        chosen = entry.upstreams if upstreams is None else upstreams
        return cls(entry.original, chosen, entry.tool, entry.mirrored, entry.preset)


class Admission(Protocol):
    """Decides about resources that no list has."""

    def admits(self, uri: str, target: Target, *, by_template: bool) -> bool:
        """Whether agents may use this URI. `by_template`: a published template matches it."""


class Decision(msgspec.Struct, frozen=True):
    """How one name conflict was resolved, for `rad mcp proxy tools`."""

    kind: Kind
    name: str
    published: tuple[tuple[str | None, tuple[str, ...]], ...]
    """For each claim, in file order: the name it got (None: dropped), and its upstreams."""
    kept: bool = False
    """Whether a claim keeps the name because its upstream had it first, although another is above it in the file."""

    @property
    def outcome(self) -> str:
        """The resolution as a sentence."""
        parts = []
        for name, upstreams in self.published:
            owners = " and ".join(upstreams)
            why = f", because {owners} had the name first" if self.kept and name == self.name else ""
            verb = "has" if len(upstreams) == 1 else "have"
            parts.append(f"{owners} {verb} {'no name for it' if name is None else f'it as {shortened(name)}{why}'}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of the catalog. Equal snapshots give the same result for every look-up and list."""

    tools: Mapping[str, Entry] = field(default_factory=dict)
    prompts: Mapping[str, Entry] = field(default_factory=dict)
    resources: Mapping[str, Entry] = field(default_factory=dict)
    templates: Mapping[str, Entry] = field(default_factory=dict)
    matched: Templates = field(default_factory=Templates, compare=False)
    """Derived from `templates`."""
    tools_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict, compare=False)
    """(upstream, its own name for the tool) -> the published entry; derived from `tools`."""
    resources_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict, compare=False)
    """The same for resources and their URIs; derived from `resources`."""
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    all_fetched: Mapping[Upstream, FetchedLists] = field(default_factory=dict)
    """The lists that upstreams returned to the gateway itself; views are made from them."""
    listings: Mapping[tuple[str, Era], Listing] = field(default_factory=dict)
    """(list method, era) -> listing."""
    private: Mapping[Upstream, frozenset[Kind]] = field(default_factory=dict)
    """The lists that each principal must fetch for itself; empty if no list is private."""
    changes: Mapping[Upstream, int] = field(default_factory=dict)
    """`PublishedLists.changes` of the upstreams in `private`, when the snapshot was made."""
    linking: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """`schemes`, if more than one upstream has resources, so that URIs may be ambiguous; else empty."""
    schemes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Upstream -> the schemes of the URIs and templates that it lists."""
    awaited: Mapping[Kind, Mapping[str, Entry]] = field(default_factory=dict)
    """Names reserved for upstreams that were not reached yet; not listed."""
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    replicas: tuple[ReplicaSet, ...] = ()
    lookalikes: tuple[Lookalikes, ...] = ()
    admission: Admission | None = None
    """Restricts the resources that no list has; None for no restriction."""

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        return {
            "tool": self.tools,
            "prompt": self.prompts,
            "resource": self.resources,
            "template": self.templates,
        }[kind]

    def held(self, kind: Kind) -> Mapping[str, Entry]:
        """The published names, and those that are reserved for upstreams that were not reached yet."""
        awaited = self.awaited.get(kind)
        return {**awaited, **self.entries(kind)} if awaited else self.entries(kind)

    def equals(self, other: Snapshot) -> Slices[bool]:
        """Whether both are equal, in slices."""
        for kind in LIST_METHODS:
            mine, theirs = self.held(kind), other.held(kind)
            if mine.keys() != theirs.keys():
                return False
            for part in sliced(mine.items()):
                if any(entry != theirs[name] for name, entry in part):
                    return False
                if len(mine) > SLICE:
                    yield
        mine_rest, their_rest = (
            _replace(one, tools={}, prompts={}, resources={}, templates={}, awaited={}) for one in (self, other)
        )
        return mine_rest == their_rest

    def target(self, kind: Kind, name: str) -> Target | None:
        """The target of a published name, or of one that is reserved for an upstream that was not reached yet."""
        entry = self.entries(kind).get(name)
        if entry is None:
            entry = self.awaited.get(kind, {}).get(name)
        return None if entry is None else Target.of(entry)

    def has_prompt(self, upstream: Upstream, original: str) -> bool:
        """Whether a prompt of an upstream is listed, by its own name."""
        return any(it.original == original and upstream in it.upstreams for it in self.prompts.values())

    def differs(self, other: Snapshot, kind: Kind) -> bool:
        """Whether agents may see a different list of that kind; a private list may differ whenever `changes` does."""
        method = LIST_METHODS[kind]
        mine, theirs = self.listings.get((method, "modern")), other.listings.get((method, "modern"))
        if mine is None or theirs is None:
            return mine is not theirs
        return mine.raws != theirs.raws or self._private_of(kind) != other._private_of(kind)

    def _private_of(self, kind: Kind) -> dict[Upstream, int]:
        return {upstream: self.changes[upstream] for upstream, kinds in self.private.items() if kind in kinds}

    def resource(self, uri: str, effort: Effort | None = None) -> Target | None:
        """The target of a URI: the upstream that lists it, or that has a matching template, or that its mark names, or
        the only upstream with resources.

        For a URI with a mark, only renamed templates count. `effort`: what the tests of templates may still cost; once
        it is spent, no template matches.
        """
        target = self.target("resource", uri)
        if target is not None:
            return target
        plain, name = unmarked_uri(uri)
        marked = self.upstreams.get(name)
        if marked is not None and not self._has_resources(marked):
            marked = None
        effort = effort or Effort()
        for match in self.matched.candidates(uri, effort):
            if effort.spent or (marked is not None and not match.mark):
                break
            original = match.original_of(uri, effort)
            if original is not None:
                return self._admitted(uri, Target(original, match.entry.upstreams), by_template=True)
        if marked is not None:
            return self._admitted(uri, Target(plain, (marked,)))
        owners = [upstream for upstream in self.upstreams.values() if self._has_resources(upstream)]
        return self._admitted(uri, Target(uri, (owners[0],))) if len(owners) == 1 else None

    def fits_template(self, uri: str, effort: Effort) -> bool:
        """Whether a published template matches a URI; True if `effort` is spent."""
        matching = (it.original_of(uri, effort) is not None for it in self.matched.candidates(uri, effort))
        return any(matching) or effort.spent

    def _admitted(self, uri: str, target: Target, *, by_template: bool = False) -> Target | None:
        admission = self.admission
        return target if admission is None or admission.admits(uri, target, by_template=by_template) else None

    def _has_resources(self, upstream: Upstream) -> bool:
        """Whether the upstream has resources, by its capabilities or its lists."""
        if "resources" in upstream.capabilities:
            return True
        known = self.all_fetched.get(upstream)
        return known is not None and bool(known.of("resource") or known.of("template"))

    def published_uri(self, upstream: str, uri: str, *, served: bool = False, effort: Effort | None = None) -> str:
        """The URI by which agents reach `uri` of an upstream, listed or not.

        A URI that leads elsewhere, such as to a web page, stays as it is. `served`: it is known to be a resource of the
        upstream. `effort`: what the tests of templates may still cost; once it is spent, the URI gets the mark of its
        upstream, which always leads there.
        """
        schemes = self.linking.get(upstream)
        if schemes is None:
            return uri
        entry = self.resources_by_owner.get((upstream, uri))
        if entry is not None:
            return entry.name
        name = unmarked_uri(uri)[1]
        if name in self.upstreams:
            return uri  # already a published URI, which a tool returned as the agent sent it
        effort = effort or Effort()
        candidates = self.matched.candidates(uri, effort)
        own = (match for match in candidates if match.entry.serves(upstream) and match.matches(uri, effort))
        match = next(own, None)
        if match is not None and match.mark:
            return uri + match.mark
        target = self.resource(uri, effort)
        reached = target is not None and any(found.name == upstream for found in target.upstreams)
        if (reached and not effort.spent) or (match is None and not served and leads_elsewhere(uri, schemes)):
            return uri
        return marked_uri(uri, upstream)


def explicit_tool(
    seen: Sequence[Snapshot], upstream: Upstream, original: str, principal: str | None, *, listed_only: bool
) -> Target | None:
    """The target of an explicitly named tool that the operator lets use. Plugins see its published entry.

    `seen`: the snapshots of the principal. `listed_only`: only tools in their lists. A login tool can be called when no
    list has it: a login in between takes it away.
    """
    allowed = upstream.config.tools
    if allowed is not None and original not in allowed and not is_login_tool(upstream.config, original):
        return None
    for snapshot in seen:
        entry = snapshot.tools_by_owner.get((upstream.name, original))
        if entry is not None:
            return Target.of(entry, (upstream,))
    if is_login_tool(upstream.config, original):
        item: Item | None = login_tool(upstream.name)
    elif listed_only:
        return None
    else:
        fetched = upstream.fetched if principal is None else upstream.private_lists.tools_for(principal)
        item = fetched.find("tool", original) if fetched is not None else None
    if item is None:
        return Target(original, (upstream,))
    tool = Tool(f"{upstream.name}:{original}", original, item.raw or {}, (upstream.name,))
    return Target(original, (upstream,), tool, item.header_map)
