"""Definitions of tools, prompts and resources, decoded when a plugin first reads them.

Decoded definitions can take thirty times as much memory as their JSON, and most are never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

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
