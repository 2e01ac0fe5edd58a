"""A name and everybody who claims it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway_core.api.upstream import UpstreamView
from gateway_core.mcp.literals import Kind


@dataclass(frozen=True, slots=True)
class Claim:
    """One definition under a name, and the upstreams that share it (replicas of one tool)."""

    name: str
    """The name the upstreams gave it: a tool's or prompt's name, a resource's URI, a template."""
    definition: Mapping[str, Any]
    """Read-only."""
    upstreams: tuple[UpstreamView, ...]
    """In file order; never empty."""

    @property
    def owner(self) -> UpstreamView:
        """The first of its upstreams in file order."""
        return self.upstreams[0]


@dataclass(frozen=True, slots=True)
class ToolConflict:
    """A name and everybody who claims it, in file order. One claim only: nothing clashes.

    Whoever held the name before others came to offer it comes before them.

    `resolve_conflict` is asked for every name, so that a strategy may rename what does not clash, too.
    """

    kind: Kind
    name: str
    claims: tuple[Claim, ...]
    separator: str = "__"

    @property
    def clashes(self) -> bool:
        return len(self.claims) > 1

    def qualified(self, claim: Claim) -> str:
        """The claim's name with its first upstream's name on it: `{upstream}{separator}{name}`.

        A resource or template gets `#upstream={upstream}` instead, because its URI must stay one (RFC 3986).
        """
        if self.kind in {"resource", "template"}:
            return marked_uri(self.name, claim.owner.name)
        return f"{claim.owner.name}{self.separator}{self.name}"


def marked_uri(uri: str, upstream: str) -> str:
    """A URI, or a template of some, with its upstream's name in the fragment."""
    return f"{uri}{'&' if '#' in uri else '#'}upstream={upstream}"


def unmarked_uri(uri: str) -> tuple[str, str]:
    """The URI and the upstream's name that make `uri` under `marked_uri`; an empty name when it has no mark."""
    plain, mark, name = uri.rpartition("upstream=")
    if mark and plain and plain[-1] in "#&" and marked_uri(plain[:-1], name) == uri:
        return plain[:-1], name
    return uri, ""
