"""Which of the suite's client scenarios the gateway is put through: all of the suite's own sets, and some extensions.

The sets are `requirements/*.yaml` in the suite's package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

REVISIONS: Final = ("2025-11-25", "2026-07-28")

EXTENSIONS: Final = ("auth/client-credentials-basic", "auth/client-credentials-jwt", "json-schema-2020-12-preservation")
"""Optional or newer than the sets, and about what the gateway does: driven, reported, not counted. The
extensions with other grants or with DPoP are not driven."""


def required(package: Path, revision: str) -> list[str]:
    """The client scenarios that conformance to `revision` requires, as the suite's package says."""
    text = (package / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    return list(_items(text, "client"))


def _items(text: str, key: str) -> Iterator[str]:
    """The entries of one of the file's flat lists."""
    inside = False
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            inside = line == f"{key}:"
        elif inside and line.startswith("  - "):
            yield line.removeprefix("  - ").strip()
