"""Problems of a configuration: all that can be found in it, and their form as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway_core.config import plugin_entries
from gateway_core.errors import ConfigError, FileProblem, PluginError
from gateway_core.hooks import loader


def with_plugins(error: ConfigError, path: Path) -> list[str]:
    """The problems of a file that cannot be loaded, and of its plugin entries whose values are known."""
    entries = [
        entry if complete else entry.model_copy(update={"enabled": False}) for entry, complete in plugin_entries(path)
    ]
    try:
        loader.load(entries, str(path))
    except PluginError as wrong:
        known = {(one.line, one.key) for one in error.problems if isinstance(one, FileProblem)}
        others = [one for one in wrong.problems if isinstance(one, FileProblem) and (one.line, one.key) not in known]
        return [*error.problems, *others]
    return error.problems


def parts_of(problems: Sequence[str], path: Path | None) -> list[dict[str, Any]]:
    """`file`, `line`, `key` and `message` of each problem; `line` and `key` are null for one of the whole file."""
    return [
        {"file": one.file, "line": one.line, "key": one.key, "message": one.message}
        if isinstance(one, FileProblem)
        else {"file": None if path is None else str(path), "line": None, "key": None, "message": one}
        for one in problems
    ]
