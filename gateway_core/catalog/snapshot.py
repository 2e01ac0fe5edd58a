"""One state of the catalog: published names, who serves them, and list answers ready to be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import re2

from gateway_core.types import Era, Kind, Tool
from gateway_core.upstream.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Entry:
    """One published tool, prompt, resource or template."""

    kind: Kind
    name: str
    """What agents call it."""
    original: str
    """What its upstreams call it."""
    raw: bytes
    """Its definition as agents see it."""
    upstreams: tuple[Upstream, ...]
    """Replicas that can serve it, in file order."""
    tool: Tool | None = None
    mirrored: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Of a tool: the arguments that `Mcp-Param-*` headers mirror, see `Item.header_map`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes: the name the upstreams know, and those that know it."""

    original: str
    upstreams: tuple[Upstream, ...]
    tool: Tool | None = None
    mirrored: Mapping[tuple[str, ...], str] = field(default_factory=dict)
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

    def original_of(self, uri: str) -> str | None:
        """The upstream's own URI for a published one of this template; None when it is none."""
        mark = self.entry.name.removeprefix(self.entry.original)
        if mark and not uri.endswith(mark):
            return None
        original = uri.removesuffix(mark) if mark else uri
        return original if self.pattern.fullmatch(original) else None

    def published(self, original: str) -> str | None:
        """The published URI for an upstream's own one of this template; None when it is none."""
        mark = self.entry.name.removeprefix(self.entry.original)
        return original + mark if self.pattern.fullmatch(original) else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Immutable; a call keeps the one it started with."""

    tools: Mapping[str, Entry] = field(default_factory=dict)
    prompts: Mapping[str, Entry] = field(default_factory=dict)
    resources: Mapping[str, Entry] = field(default_factory=dict)
    templates: Mapping[str, Entry] = field(default_factory=dict)
    patterns: tuple[TemplateMatch, ...] = ()
    tools_by_owner: Mapping[tuple[str, str], Entry] = field(default_factory=dict)
    """(upstream's name, its own name of the tool) -> the published entry."""
    resources_by_owner: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(upstream's name, its own URI) -> the published URI."""
    pages: Mapping[tuple[str, Era], tuple[bytes, ...]] = field(default_factory=dict)
    """(list method, era) -> result objects, one a page."""
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()


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
