"""`rad mcp proxy plugins`: the installed plugins, which of them the configuration enables, and their settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway_core.cli.inspecting.problems import load_with_plugins, parts_of
from gateway_core.cli.locate import UsageError, locate
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import put, put_json, say
from gateway_core.config import DEFAULT_PLUGINS, plugin_entries
from gateway_core.errors import ConfigError, FileProblem, PluginError
from gateway_core.hooks import loader
from gateway_core.hooks.described import Described, described
from gateway_core.log.escaping import escape

_COLUMNS = ("order", "plugin", "version", "hooks", "on_error", "distribution")


def list_plugins(config: Path | None, *, as_json: bool) -> None:
    """Print the enabled plugins in order, then the other installed ones, each with its settings.

    Variables and files that `${…}` names may be missing.
    Raises `ConfigError` or `PluginError` after the list if the configuration is wrong.
    """
    path = _found(config)
    installed = described()
    enabled, problem = _enabled(path, installed)
    rows = [_row(plugin, order, on_error) for order, (plugin, on_error) in enumerate(enabled, 1)]
    names = {row["plugin"] for row in rows}
    rows += [_row(plugin, None, None) for plugin in installed if plugin.name not in names]
    settings = {plugin.name: plugin for plugin in installed}
    for row in rows:
        known = settings.get(row["plugin"])
        row["settings"] = [] if known is None else known.settings
        row["problem"] = None if known is None else known.problem
        if row["hooks"] is None and known is not None and known.problem is None:
            row["hooks"] = list(known.hooks)
    if as_json:
        put_json({"plugins": rows, "problems": [] if problem is None else parts_of(problem.problems, path)})
    else:
        cells = [[_cell(row[column]) for column in _COLUMNS] for row in rows]
        show_table(_COLUMNS, cells, right={"order"}, whole={"order", "plugin"})
        for row in rows:
            _show_settings(row)
    if problem is not None:
        raise problem


def _found(config: Path | None) -> Path | None:
    try:
        return locate(config)
    except UsageError:
        if config is not None:
            raise
        say(f"no configuration file here; a new one enables: {', '.join(DEFAULT_PLUGINS)}")
        return None


_Enabled = Sequence[tuple[loader.LoadedPlugin | Described, str]]
"""The enabled plugins in order, each with its `on_error`."""


def _enabled(path: Path | None, installed: Sequence[Described]) -> tuple[_Enabled, ConfigError | PluginError | None]:
    """The plugins that the configuration enables, and its problems."""
    if path is None:
        return (), None
    try:
        return [(plugin, plugin.on_error) for plugin in load_with_plugins(path)[1]], None
    except PluginError as error:
        return (), error
    except ConfigError as error:
        problems = [one for one in error.problems if not (isinstance(one, FileProblem) and one.unset)]
    known = {plugin.name: plugin for plugin in installed}
    named = [entry for entry, _ in plugin_entries(path) if entry.enabled and entry.name in known]
    return [(known[entry.name], entry.on_error) for entry in named], ConfigError(problems) if problems else None


def _row(plugin: loader.LoadedPlugin | Described, order: int | None, on_error: str | None) -> dict[str, Any]:
    return {
        "order": order,
        "plugin": plugin.name,
        "version": plugin.version,
        "hooks": list(plugin.hooks) if isinstance(plugin, loader.LoadedPlugin) else None,
        "on_error": on_error,
        "distribution": plugin.distribution,
    }


def _show_settings(row: dict[str, Any]) -> None:
    put()
    if row["problem"] is not None:
        put(f"{escape(row['plugin'])}: {escape(row['problem'])}")
    elif not row["settings"]:
        put(f"{escape(row['plugin'])}: no settings")
    else:
        put(f"{escape(row['plugin'])}:")
        cells = [[one["name"], one["type"], _default(one), one["description"]] for one in row["settings"]]
        show_table(("setting", "type", "default", "description"), cells, indent="  ")


def _default(setting: dict[str, Any]) -> str:
    return "required" if setting["required"] else json.dumps(setting["default"], ensure_ascii=False, default=str)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(value) if isinstance(value, list) else str(value)
