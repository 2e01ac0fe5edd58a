"""`rad mcp proxy plugins`: the installed plugins, which of them the configuration enables, and their settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway_core.cli.inspecting.problems import parts_of
from gateway_core.cli.instance import UsageError, locate
from gateway_core.cli.rendering.table import show_table
from gateway_core.cli.report import put, put_json, say
from gateway_core.cli.settings import load_config
from gateway_core.config import DEFAULT_PLUGINS
from gateway_core.errors import ConfigError, PluginError
from gateway_core.hooks import loader
from gateway_core.hooks.described import Described, described
from gateway_core.log.escaping import escape

_COLUMNS = ("order", "plugin", "version", "hooks", "on_error", "distribution")


def list_plugins(config: Path | None, *, as_json: bool) -> None:
    """Print the enabled plugins in order, then the other installed ones, each with its settings.

    Raises `ConfigError` or `PluginError` after the list if the configuration is wrong.
    """
    path = _found(config)
    enabled, problem = _enabled(path)
    installed = described()
    rows = [_row(plugin, order) for order, plugin in enumerate(enabled, 1)]
    names = {row["plugin"] for row in rows}
    rows += [_row(plugin, None) for plugin in installed if plugin.name not in names]
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


def _enabled(path: Path | None) -> tuple[tuple[loader.LoadedPlugin, ...], ConfigError | PluginError | None]:
    """The plugins that the configuration enables, or why they are not known."""
    if path is None:
        return (), None
    try:
        return loader.load(load_config(path).proxy.plugins, str(path)), None
    except (ConfigError, PluginError) as error:
        return (), error


def _row(plugin: loader.LoadedPlugin | Described, order: int | None) -> dict[str, Any]:
    enabled = plugin if isinstance(plugin, loader.LoadedPlugin) else None
    return {
        "order": order,
        "plugin": plugin.name,
        "version": plugin.version,
        "hooks": None if enabled is None else list(enabled.hooks),
        "on_error": None if enabled is None else enabled.on_error,
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
