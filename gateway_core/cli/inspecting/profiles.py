"""What `check` says about profiles: keys without effect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway_core.config import Config
from gateway_core.config.source import line_of, scan

if TYPE_CHECKING:
    from gateway_core.catalog.profiles.remarks import Remark


def with_lines(path: Path, config: Config, remarks: Mapping[str, list[Remark]]) -> list[str]:
    """Remarks with the file and the line of the key that each is about."""
    if not any(remarks.values()):
        return []
    lines = scan(path.read_text(encoding="utf-8-sig"))
    places = {profile.name: index for index, profile in enumerate(config.proxy.profiles)}
    return [
        f"{path}:{line_of(lines, ('mcp', 'proxy', 'profiles', places[name], *remark.path))}: {remark.text}"
        for name, found in remarks.items()
        for remark in found
    ]
