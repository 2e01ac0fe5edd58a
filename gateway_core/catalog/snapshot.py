"""One state of the catalog: published names, the upstreams that serve them, and encoded list results."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec
import re2

from gateway_core.api import Era, Kind, Tool
from gateway_core.api.conflict import marked_uri, unmarked_uri
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.links import leads_elsewhere
from gateway_core.catalog.lists import Listing
from gateway_core.catalog.naming import shortened
from gateway_core.catalog.replicas import Lookalikes, ReplicaSet
from gateway_core.upstream.lists.fetched_lists import LIST_METHODS, FetchedLists
from gateway_core.upstream.upstream import Upstream

_EXPRESSION: Final = re.compile(r"\{(.)?[^{}]*\}")
_OPERATORS: Final = frozenset("+#./;?&")
"""First characters of the expressions that may match several segments of a path (RFC 6570, 2.2)."""


class Target(msgspec.Struct, frozen=True):
    """The destination of a call: the upstreams that serve it, and their name for it."""

    original: str
    upstreams: tuple[Upstream, ...]
    tool: Tool | None = None
    mirrored: Mapping[tuple[str, ...], str] = {}
    """See `Entry.mirrored`."""


@dataclass(frozen=True, slots=True)
class Decision:
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
class TemplateMatch:
    """A published URI template and the pattern of its URIs (RE2, because the template is untrusted input)."""

    entry: Entry
    pattern: re2._Regexp

    @property
    def mark(self) -> str:
        """The suffix that was added to the upstream's template; empty if it was not renamed."""
        return self.entry.name.removeprefix(self.entry.original)

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """Sorts renamed templates first, then precise templates before greedy ones.

        A template is more precise if it begins with more literal characters, then if it has more of them in total,
        then if fewer of its expressions match several segments of a path.
        """
        template = self.entry.original
        literals = len(_EXPRESSION.sub("", template))
        greedy = sum(found.group(1) in _OPERATORS for found in _EXPRESSION.finditer(template))
        return not self.mark, -len(template.partition("{")[0]), -literals, greedy

    def original_of(self, uri: str) -> str | None:
        """The upstream's own URI for a published URI; None if the URI does not match this template."""
        mark = self.mark
        if mark and not uri.endswith(mark):
            return None
        original = uri.removesuffix(mark) if mark else uri
        return original if self.pattern.fullmatch(original) else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of the catalog. Equal snapshots give the same result for every look-up and list."""

    tools: Mapping[str, Entry] = field(default_factory=dict)
    prompts: Mapping[str, Entry] = field(default_factory=dict)
    resources: Mapping[str, Entry] = field(default_factory=dict)
    templates: Mapping[str, Entry] = field(default_factory=dict)
    patterns: tuple[TemplateMatch, ...] = field(default=(), compare=False)
    """Derived from `templates`; in the order of `TemplateMatch.rank`."""
    tools_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    """(upstream, its own name for the tool) -> the published entry."""
    resources_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    """The same for resources and their URIs."""
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
    """Upstreams whose URIs may be ambiguous: all that have resources, if there is more than one -> the schemes of
    their URIs."""
    awaited: Mapping[Kind, Mapping[str, Entry]] = field(default_factory=dict)
    """Names reserved for upstreams that were not reached yet; not listed."""
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
        """The target of a published name, or of one that is reserved for an upstream that was not reached yet."""
        entry = self.entries(kind).get(name)
        if entry is None:
            entry = self.awaited.get(kind, {}).get(name)
        return None if entry is None else Target(entry.original, entry.upstreams, entry.tool, entry.mirrored)

    def differs(self, other: Snapshot, kind: Kind) -> bool:
        """Whether agents may see a different list of that kind; a private list may differ whenever `changes` does."""
        method = LIST_METHODS[kind]
        mine, theirs = self.listings.get((method, "modern")), other.listings.get((method, "modern"))
        if mine is None or theirs is None:
            return mine is not theirs
        return mine.raws != theirs.raws or self._private_of(kind) != other._private_of(kind)

    def _private_of(self, kind: Kind) -> dict[Upstream, int]:
        return {upstream: self.changes[upstream] for upstream, kinds in self.private.items() if kind in kinds}

    def resource(self, uri: str) -> Target | None:
        """The target of a URI: the upstream that lists it, or that has a matching template, or that its mark names, or
        the only upstream with resources.

        For a URI with a mark, only renamed templates count.
        """
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
        """Whether the upstream has resources, by its capabilities or its lists."""
        if "resources" in upstream.capabilities:
            return True
        known = self.all_fetched.get(upstream)
        return known is not None and bool(known.of("resource") or known.of("template"))

    def published_uri(self, upstream: str, uri: str, *, served: bool = False) -> str:
        """The URI by which agents reach `uri` of an upstream, listed or not.

        A URI that leads elsewhere, such as to a web page, stays as it is. `served`: it is known to be a resource of the
        upstream.
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
        own = (match for match in self.patterns if match.entry.serves(upstream) and match.pattern.fullmatch(uri))
        match = next(own, None)
        if match is not None and match.mark:
            return uri + match.mark
        target = self.resource(uri)
        reached = target is not None and any(found.name == upstream for found in target.upstreams)
        if reached or (match is None and not served and leads_elsewhere(uri, schemes)):
            return uri
        return marked_uri(uri, upstream)


def template_pattern(template: str) -> re2._Regexp | None:
    """A pattern for the URIs of an RFC 6570 template; None if the template is malformed.

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
        if expression[0] in _OPERATORS:
            pattern.append(".*")
        else:
            pattern.append("[^/?#]*" if "*" in expression or "," in expression else "[^/?#]+")
    try:
        return re2.compile("".join(pattern))
    except re2.error:
        return None
