"""How a gateway was started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Launch:
    """How the gateway was started."""

    path: Path
    """The configuration file."""
    folder: Path
    """The state folder."""
    options: Mapping[str, Any]
    """Values from the command line for keys of `[mcp.proxy]`."""
    watch: bool = False
    """Whether the file is watched."""
