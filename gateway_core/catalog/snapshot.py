"""One state of the catalog: published names, who serves them, and list answers ready to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import re2

from gateway_core.api import Era, Kind, Tool
from gateway_core.api.conflict import marked_uri, unmarked_uri
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.lists import Listing
from gateway_core.catalog.replicas import Lookalikes, ReplicaSet
from gateway_core.upstream.lists.inventory import LIST_METHODS, Inventory
from gateway_core.upstream.upstream import Upstream


class Target(msgspec.Struct, frozen=True):
    """Where a call goes: the name the upstreams know, and those that know it."""

    original: str
    upstreams: tuple[Upstream, ...]
    tool: Tool | None = None
    mirrored: Mapping[tuple[str, ...], str] = {}
    """As in the entry."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How one clash was solved, for `rad mcp proxy tools`."""

    kind: Kind
    name: str
    published: tuple[tuple[str | None, tuple[str, ...]], ...]
    """For each claim, in file order: the name it got (None: dropped), and its upstreams."""

    @property
    def outcome(self) -> str:
        """How it ended, in a sentence."""
        parts = []
        for name, upstreams in self.published:
            owners = " and ".join(upstreams)
            parts.append(f"{owners} has no name for it" if name is None else f"{owners} has it as {name}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class TemplateMatch:
    """A published URI template, its URIs recognised by a pattern (RE2: the template is an upstream's input)."""

    entry: Entry
    pattern: re2._Regexp

    @property
    def mark(self) -> str:
        """What was appended to the upstream's own template; empty when it kept its own."""
        return self.entry.name.removeprefix(self.entry.original)

    def original_of(self, uri: str) -> str | None:
        """The upstream's own URI for a published one of this template; None when it is none."""
        mark = self.mark
        if mark and not uri.endswith(mark):
            return None
        original = uri.removesuffix(mark) if mark else uri
        return original if self.pattern.fullmatch(original) else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Immutable; each look-up takes the newest. Equal are those in which no answer differs."""

    tools: Mapping[str, Entry] = field(default_factory=dict)
    prompts: Mapping[str, Entry] = field(default_factory=dict)
    resources: Mapping[str, Entry] = field(default_factory=dict)
    templates: Mapping[str, Entry] = field(default_factory=dict)
    patterns: tuple[TemplateMatch, ...] = field(default=(), compare=False)
    """Those whose template was renamed come first. They come of `templates`."""
    tools_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    """(upstream's name, its own name of the tool) -> the published entry."""
    resources_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    """The same for resources and their URIs."""
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    offers: Mapping[Upstream, Inventory] = field(default_factory=dict)
    """What the gateway itself was offered, of which views are made."""
    listings: Mapping[tuple[str, Era], Listing] = field(default_factory=dict)
    """By list method."""
    private: Mapping[Upstream, frozenset[Kind]] = field(default_factory=dict)
    """The lists that belong to each principal for itself; empty where nothing is private."""
    changes: Mapping[Upstream, int] = field(default_factory=dict)
    """How often those had changed by then: `Offer.changes`."""
    linking: frozenset[str] = frozenset()
    """Names of the upstreams whose URIs could be taken for another's: those that have resources beside others."""
    awaited: Mapping[Kind, Mapping[str, Entry]] = field(default_factory=dict)
    """Names kept for upstreams that were not reached yet; in no list."""
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    replicas: tuple[ReplicaSet, ...] = ()
    lookalikes: tuple[Lookalikes, ...] = ()

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        return {
            "tool": self.tools,
            "prompt": self.prompts,
            "resource": self.resources,
            "template": self.templates,
        }[kind]

    def target(self, kind: Kind, name: str) -> Target | None:
        """Where calls of a published name go, and of one that is kept for an upstream that was not reached yet."""
        entry = self.entries(kind).get(name)
        if entry is None:
            entry = self.awaited.get(kind, {}).get(name)
        return None if entry is None else Target(entry.original, entry.upstreams, entry.tool, entry.mirrored)

    def differs(self, other: Snapshot, kind: Kind) -> bool:
        """Whether agents would see another list of that kind, or may: of private lists nobody else can tell."""
        method = LIST_METHODS[kind]
        mine, theirs = self.listings.get((method, "modern")), other.listings.get((method, "modern"))
        if mine is None or theirs is None:
            return mine is not theirs
        return mine.raws != theirs.raws or self._private_of(kind) != other._private_of(kind)

    def _private_of(self, kind: Kind) -> dict[Upstream, int]:
        return {upstream: self.changes[upstream] for upstream, kinds in self.private.items() if kind in kinds}

    def resource(self, uri: str) -> Target | None:
        """Who serves a URI: who lists it, else whom its mark names, else whose template it matches, else the only
        upstream that has any resources."""
        target = self.target("resource", uri)
        if target is not None:
            return target
        plain, name = unmarked_uri(uri)
        marked = self.upstreams.get(name)
        if marked is not None and not self._has_resources(marked):
            marked = None
        for match in self.patterns:
            if marked is not None and not match.mark:
                break
            original = match.original_of(uri)
            if original is not None:
                return Target(original, match.entry.upstreams)
        if marked is not None:
            return Target(plain, (marked,))
        owners = [upstream for upstream in self.upstreams.values() if self._has_resources(upstream)]
        return Target(uri, (owners[0],)) if len(owners) == 1 else None

    def _has_resources(self, upstream: Upstream) -> bool:
        """Whether it offers any, as it said itself or as is remembered of it."""
        if "resources" in upstream.capabilities:
            return True
        known = self.offers.get(upstream)
        return known is not None and known.remembered and bool(known.of("resource") or known.of("template"))

    def published_uri(self, upstream: str, uri: str) -> str:
        """The URI by which agents reach what an upstream calls `uri`, be it listed or not."""
        if upstream not in self.linking:
            return uri
        entry = self.resources_by_owner.get((upstream, uri))
        if entry is not None:
            return entry.name
        name = unmarked_uri(uri)[1]
        if name in self.upstreams:
            return uri  # an agent's own word for it, given back by a tool
        for match in self.patterns:
            if match.mark and match.entry.serves(upstream) and match.pattern.fullmatch(uri):
                return uri + match.mark
        target = self.resource(uri)
        reached = target is not None and any(found.name == upstream for found in target.upstreams)
        return uri if reached else marked_uri(uri, upstream)


def template_pattern(template: str) -> re2._Regexp | None:
    """A pattern for the URIs of an RFC 6570 template; None for one that is malformed.

    Simple expressions (`{name}`) stop at `/`, `?` and `#`; those with an operator (`{+path}`, `{?query}`) do not.
    """
    pattern: list[str] = []
    rest = template
    while rest:
        literal, brace, rest = rest.partition("{")
        pattern.append(re2.escape(literal))
        if not brace:
            break
        expression, closed, rest = rest.partition("}")
        if not closed or not expression:
            return None
        if expression[0] in "+#./;?&":
            pattern.append(".*")
        else:
            pattern.append("[^/?#]*" if "*" in expression or "," in expression else "[^/?#]+")
    try:
        return re2.compile("".join(pattern))
    except re2.error:
        return None
