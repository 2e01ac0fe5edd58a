"""`check`, `tools` and `plugins`: inspect the configuration without serving agents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway_core.cli import client, render
from gateway_core.cli.instance import UsageError, locate
from gateway_core.cli.report import Failed, put, put_json, say
from gateway_core.cli.running import instance_of
from gateway_core.cli.settings import load_config, local_gateway
from gateway_core.config import DEFAULT_PLUGINS, Config, exposure
from gateway_core.errors import ConfigError, PluginError
from gateway_core.hooks import loader as plugins
from gateway_core.log.escaping import escape


def check(config: Path | None, *, connect: bool, as_json: bool) -> None:
    """Validate the file and its plugins; with `connect`, try every upstream once. Raises `Failed` if one fails."""
    path = locate(config)
    try:
        settings = load_config(path)
        loaded = plugins.load(settings.proxy.plugins, str(path))
    except (ConfigError, PluginError) as error:
        if as_json:
            put_json({"ok": False, "config": str(path), "problems": str(error).splitlines(), "upstreams": []})
        raise
    found, notes = asyncio.run(_try_upstreams(settings)) if connect else ([], _replicas(settings))
    failed = [one["name"] for one in found if one["state"] not in {"healthy", "disabled"}]
    proxy, rows = settings.proxy, found or _from_file(settings)
    warnings = exposure(proxy)
    if as_json:
        names = [plugin.name for plugin in loaded]
        put_json(
            {
                "ok": not failed,
                "config": str(path),
                "problems": [],
                "enable": proxy.enable,
                "plugins": names,
                "warnings": warnings,
                "notes": notes,
                "upstreams": rows,
            }
        )
    else:
        put(f"ok: {escape(str(path))}: {len(proxy.upstreams)} upstreams, {len(loaded)} plugins")
        for one in rows:
            if "state" in one:
                put(_line(one))
            for warning in one.get("warnings", ()):
                put(f"          warning: {escape(warning)}")
        for warning in warnings:
            put(f"warning: {escape(warning)}")
        for note in notes:
            put(f"note: {escape(note)}")
        if not proxy.enable:
            put("note: `start` will refuse this file, because mcp.proxy.enable is false")
    if failed:
        raise Failed(f"{len(failed)} of {len(found)} upstreams failed: {', '.join(failed)}")


def _from_file(config: Config) -> list[dict[str, Any]]:
    """The upstreams as the file has them; those that are not used have a `state`."""
    rows: list[dict[str, Any]] = []
    for one in (*config.proxy.upstreams, *config.disabled):
        rows.append({"name": one.name, "transport": one.transport})
        if one.misconfigured or not one.enabled:
            rows[-1]["state"] = "misconfigured" if one.enabled else "disabled"
            rows[-1]["last_error"] = one.misconfigured or None
    return rows


def _replicas(config: Config) -> list[str]:
    """Notes on replicas that follow from the file alone."""
    from gateway_core.catalog.replicas import declared, undeclared  # noqa: PLC0415 - `plugins` does not need it

    return [*declared(config.proxy), *undeclared(config.proxy).values()]


async def _try_upstreams(config: Config) -> tuple[list[dict[str, Any]], list[str]]:
    """Connect once; returns the state of each upstream, and the notes on replicas."""
    async with local_gateway(config) as gateway:
        return gateway.status()["upstreams"], gateway.tools()["notes"]


def _line(one: dict[str, Any]) -> str:
    name = escape(one["name"])
    if one["state"] == "disabled":
        return f"  disabled  {name}"
    if one["state"] == "misconfigured":
        return f"  misconfigured  {name}  {escape(one['last_error'])}"
    target = escape(one["target"])
    if one["state"] == "healthy":
        server = escape(one["server"] or "unnamed server")
        return f"  ok      {name}  {target}  {server}, {one['era']} {one['protocol_version']}, {one['tools']} tools"
    return f"  failed  {name}  {target}  {escape(one['last_error'] or 'no answer yet: ' + one['state'])}"


def tools(config: Path | None, *, as_json: bool) -> None:
    """Print what agents see, from the running gateway or by connecting to the upstreams."""
    path = locate(config)
    running = instance_of(path)
    if running is not None:
        answer = client.fetch(running, "tools")
    else:
        say("no gateway is running for this file: connecting to its upstreams …")
        answer = asyncio.run(_tools_now(load_config(path)))
    if as_json:
        put_json(answer)
    else:
        render.show_tools(answer)


async def _tools_now(config: Config) -> dict[str, Any]:
    async with local_gateway(config) as gateway:
        return gateway.tools()


def list_plugins(config: Path | None, *, as_json: bool) -> None:
    """Print the enabled plugins in order, with hooks and version, then the other installed plugins."""
    try:
        path = locate(config)
    except UsageError:
        if config is not None:
            raise
        rows = _installed_only()
        say(f"no configuration file here; a new one enables: {', '.join(DEFAULT_PLUGINS)}")
    else:
        rows = _enabled(load_config(path), path)
    if as_json:
        put_json({"plugins": rows})
        return
    columns = ("order", "plugin", "version", "hooks", "on_error", "distribution")
    render.show_table(columns, [[_cell(row[column]) for column in columns] for row in rows], right={"order"})


def _enabled(config: Config, path: Path) -> list[dict[str, Any]]:
    loaded = plugins.load(config.proxy.plugins, str(path))
    rows = [
        {
            "order": order,
            "plugin": plugin.name,
            "version": plugin.version,
            "hooks": list(plugin.hooks),
            "on_error": plugin.on_error,
            "distribution": plugin.distribution,
        }
        for order, plugin in enumerate(loaded, 1)
    ]
    names = {plugin.name for plugin in loaded}
    return rows + [row for row in _installed_only() if row["plugin"] not in names]


def _installed_only() -> list[dict[str, Any]]:
    # A plugin that is not enabled is not imported, so its hooks are unknown.
    return [
        {
            "order": None,
            "plugin": plugin.name,
            "version": plugin.version,
            "hooks": None,
            "on_error": None,
            "distribution": plugin.distribution,
        }
        for plugin in plugins.installed()
    ]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return ", ".join(value) if isinstance(value, list) else str(value)
