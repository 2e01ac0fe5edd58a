"""What a tool does, by its annotations: the tiers that rules and approvals use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Tier: TypeAlias = Literal["read", "write", "destructive"]


def tier_of(annotations: Mapping[str, Any]) -> Tier | None:
    """The tier of a tool by the hints of its server, which may be wrong; None if they do not say.

    A tool that is not read-only is destructive by default (server/tools, ToolAnnotations). One that claims to be both
    read-only and destructive counts as destructive.
    """
    reads, destroys = annotations.get("readOnlyHint"), annotations.get("destructiveHint")
    if not isinstance(reads, bool) and not isinstance(destroys, bool):
        return None
    if reads is True:
        return "destructive" if destroys is True else "read"
    return "write" if destroys is False else "destructive"
