"""Problems of a configuration as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway_core.errors import FileProblem


def parts_of(problems: Sequence[str], path: Path | None) -> list[dict[str, Any]]:
    """`file`, `line`, `key` and `message` of each problem; `line` and `key` are null for one of the whole file."""
    return [
        {"file": one.file, "line": one.line, "key": one.key, "message": one.message}
        if isinstance(one, FileProblem)
        else {"file": None if path is None else str(path), "line": None, "key": None, "message": one}
        for one in problems
    ]
