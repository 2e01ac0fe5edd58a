"""How a gateway was started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Version: TypeAlias = tuple[int, ...] | None
"""Tells versions of a file apart; None while there is none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How the gateway was started."""

    path: Path
    """The configuration file."""
    folder: Path
    """The state folder."""
    overrides: Mapping[str, Any]
    """Values from the command line for keys of `[mcp.proxy]`."""
    watch: bool = False
    """Whether the file is watched."""
    version: Version = None
    """The version of the file that was read at the start, or one before it."""
    profile: str = ""
    """The profile of the agent on stdin and stdout."""
    detached: bool = False
    """Whether it runs in the background."""


def version_of(path: Path) -> Version:
    """The present version of a file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
