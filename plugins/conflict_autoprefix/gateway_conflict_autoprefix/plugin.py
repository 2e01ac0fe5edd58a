"""The first upstream in file order keeps a name that clashes; the others' get their upstream's name as a prefix."""

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
    """Nothing is lost: every claim is published under some name."""

    @hookimpl
    def resolve_conflict(self, conflict: ToolConflict) -> Mapping[str, Claim]:
        first, *later = conflict.claims
        # A URI that clashes with nothing keeps its form: results of tools quote it, and agents read what they quote.
        prefix_first = self.config.prefix == "always" and conflict.kind in {"tool", "prompt"}
        names = {conflict.qualified(first) if prefix_first else conflict.name: first}
        names.update((conflict.qualified(claim), claim) for claim in later)
        return names
