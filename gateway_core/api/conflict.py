"""Name conflicts: a published name and the claims on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway_core.api.definition import Definition, decoded
from gateway_core.api.upstream import UpstreamView
from gateway_core.mcp.literals import Kind


class Claim(msgspec.Struct, frozen=True, eq=False):
    """One definition of a name, and the upstreams that share it (replicas of one tool)."""

    name: str
    """The upstreams' own name: a tool's or prompt's name, a resource's URI, a URI template."""
    _definition: Definition
    upstreams: tuple[UpstreamView, ...]
    """In file order; never empty."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """The definition as its upstreams sent it, read-only."""
        return decoded(self)

    @property
    def owner(self) -> UpstreamView:
        """The first of its upstreams in file order."""
        return self.upstreams[0]


@dataclass(frozen=True, slots=True)
class ToolConflict:
    """A name and the claims on it; a single claim is no conflict.

    The claim of the upstream that owns the name by its form comes first, then that of the previous holder of the name,
    then the others in file order.

    The gateway calls `resolve_conflict` for every name, so that a plugin may also rename names without a conflict.
    """

    kind: Kind
    name: str
    claims: tuple[Claim, ...]
    separator: str = "__"

    @property
    def clashes(self) -> bool:
        return len(self.claims) > 1

    def qualified(self, claim: Claim) -> str:
        """The claim's name, prefixed with its first upstream's name: `{upstream}{separator}{name}`.

        A resource or template gets `#upstream={upstream}` instead, because it must remain a URI (RFC 3986).
        """
        if self.kind in {"resource", "template"}:
            return marked_uri(self.name, claim.owner.name)
        return f"{claim.owner.name}{self.separator}{self.name}"


def marked_uri(uri: str, upstream: str) -> str:
    """A URI or URI template with its upstream's name in the fragment."""
    return f"{uri}{'&' if '#' in uri else '#'}upstream={upstream}"


def unmarked_uri(uri: str) -> tuple[str, str]:
    """Inverse of `marked_uri`: the plain URI and the upstream's name, which is empty when `uri` has no mark."""
    plain, mark, name = uri.rpartition("upstream=")
    if mark and plain and plain[-1] in "#&" and marked_uri(plain[:-1], name) == uri:
        return plain[:-1], name
    return uri, ""
