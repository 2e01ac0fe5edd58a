"""Loads a configuration with its plugins, and finds all problems of both; their form as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway_core import errors
from gateway_core.config import Config, load, plugin_entries
from gateway_core.errors import ConfigError, FileProblem, PluginError
from gateway_core.hooks import loader


def load_with_plugins(path: Path) -> tuple[Config, tuple[loader.LoadedPlugin, ...]]:
    """The configuration and its enabled plugins. Raises `ConfigError` with the problems of both, or `PluginError`."""
    try:
        config = load(path)
    except ConfigError as error:
        raise ConfigError(with_plugins(error, path)) from None
    return config, loader.load_plugins(config.proxy, str(path))


def with_plugins(error: ConfigError, path: Path, text: str | None = None) -> list[str]:
    """The problems of a file that cannot be loaded, and those of its plugins as far as their values are known.

    `text`: take this as the content of the file.
    """
    entries = [
        entry if complete else entry.model_copy(update={"enabled": False})
        for entry, complete in plugin_entries(path, text=text)
    ]
    try:
        loader.load(entries, str(path), certificates=True)  # whether they are asked for is not known
    except PluginError as wrong:
        known = {(one.line, one.key) for one in error.problems if isinstance(one, FileProblem)}
        others = [one for one in wrong.problems if isinstance(one, FileProblem) and (one.line, one.key) not in known]
        return [*error.problems, *others]
    return error.problems


def parts_of(problems: Sequence[str], path: Path | None) -> list[dict[str, Any]]:
    """`file`, `line`, `key` and `message` of each problem; `line` and `key` are null for one of the whole file."""
    return [errors.parts_of(one, None if path is None else str(path)) for one in problems]
