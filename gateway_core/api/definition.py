"""Tools, and definitions of tools, prompts and resources, which are decoded when a plugin first reads them.

Decoded definitions can take thirty times as much memory as their JSON, and most are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from gateway_core.mcp import jsonrpc

Definition: TypeAlias = Mapping[str, Any] | bytes
"""A definition, or its JSON."""


class _Holder(Protocol):
    @property
    def _definition(self) -> Definition: ...


def decoded(holder: _Holder) -> Mapping[str, Any]:
    """The definition of a frozen `msgspec.Struct` that keeps it in `_definition`, read-only; decoded once."""
    found = holder._definition
    if isinstance(found, bytes):
        found = jsonrpc.value(found, frozen=True)
        force_setattr(holder, "_definition", found)  # type: ignore[arg-type]
    return found


class Tool(msgspec.Struct, frozen=True, eq=False):
    """A published tool: its definition for agents, and the upstreams that serve it."""

    name: str
    """The published name. Agents use it, except in a profile that gives the tool another name."""
    original_name: str
    """The name its upstreams use."""
    _definition: Definition
    upstreams: tuple[str, ...]
    """Names of the upstreams that serve it, in file order."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """The definition as agents see it, read-only: `description`, `inputSchema`, `annotations`, …"""
        return decoded(self)

    @property
    def annotations(self) -> Mapping[str, Any]:
        """The tool's hints (`readOnlyHint`, …), claimed by its server and untrusted (server/tools, Annotations)."""
        found = self.definition.get("annotations")
        return found if isinstance(found, dict) else {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tool):
            return NotImplemented
        mine, theirs = (
            (self.name, self.original_name, self.upstreams),
            (other.name, other.original_name, other.upstreams),
        )
        return mine == theirs and self.definition == other.definition

    def __hash__(self) -> int:
        return hash((self.name, self.original_name, self.upstreams))
