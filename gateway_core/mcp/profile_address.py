"""Addresses that name a profile: `/mcp/p/NAME`, and the same below the paths of HTTP+SSE."""

from __future__ import annotations

import re
from typing import Final

PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WITH_PROFILE: Final = re.compile(rf"(/mcp|/sse|/messages)/p/({PROFILE_NAME.pattern})/?")


def split_address(path: str) -> tuple[str, str | None]:
    """The path of an endpoint, and the profile that it names; None if it names none."""
    found = _WITH_PROFILE.fullmatch(path)
    return (path, None) if found is None else (found[1], found[2])


def profile_path(path: str, profile: str | None) -> str:
    """The path of an endpoint, for the agents of a profile; None: for the others."""
    return path if profile is None else f"{path}/p/{profile}"
