"""The first claim keeps a conflicting name; the other claims get their upstream's name as a prefix.

The core puts earlier holders of the name first, then follows file order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from gateway_core import Claim, Plugin, PluginConfig, ToolConflict, hookimpl


class Settings(PluginConfig):
    """Settings of `conflict_autoprefix`."""

    prefix: Literal["conflict", "always"] = Field(
        default="conflict",
        description="conflict: only later claims on a name are prefixed; always: every tool and prompt is",
    )


class AutoPrefix(Plugin[Settings]):
    """Publishes every claim, later ones under a prefixed name."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        first, *later = conflict.claims
        # A URI without a conflict stays as it is, because tool results contain it and agents read it.
        prefix_first = self.config.prefix == "always" and conflict.kind in {"tool", "prompt"}
        names = {conflict.qualified(first) if prefix_first else conflict.name: first}
        names.update((conflict.qualified(claim), claim) for claim in later)
        return names
