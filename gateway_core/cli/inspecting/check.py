"""`rad mcp proxy check`: validates the configuration, and tries every upstream if asked to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway_core.api import Tool
from gateway_core.api.notes import Known
from gateway_core.cli.hints import command
from gateway_core.cli.inspecting.problems import load_with_plugins, parts_of
from gateway_core.cli.inspecting.profiles import with_lines
from gateway_core.cli.locate import locate
from gateway_core.cli.rendering.pages import STATE_COLOURS, login_note
from gateway_core.cli.rendering.table import RED, painted
from gateway_core.cli.report import Failed, put, put_json
from gateway_core.cli.settings import local_gateway
from gateway_core.config import Config, exposure, passes_credentials_on, unprotected
from gateway_core.errors import ConfigError, PluginError
from gateway_core.hooks import Chain, LoadedPlugin
from gateway_core.hooks.notes import groups_of, left_out
from gateway_core.hooks.notes import notes as plugin_notes
from gateway_core.log.escaping import escape
from gateway_core.log.wording import count


def check(config: Path | None, *, connect: bool, as_json: bool) -> None:
    """Validate the file and its plugins; with `connect`, try every upstream once. Raises `Failed` if one fails."""
    path = locate(config)
    try:
        settings, loaded = load_with_plugins(path)
        _require_protection(settings, loaded)
    except (ConfigError, PluginError) as error:
        if as_json:
            put_json({"ok": False, "config": str(path), "problems": parts_of(error.problems, path), "upstreams": []})
        raise
    found, notes, tools = asyncio.run(_try_upstreams(path, settings)) if connect else ([], _replicas(settings), [])
    failed = [one["name"] for one in found if one["state"] not in {"healthy", "idle", "disabled"}]
    known = Known(
        _names(settings),
        tools if connect and not failed else None,
        groups_of(loaded),
        frozenset(profile.name for profile in settings.proxy.profiles) or None,
    )
    notes += left_out(loaded, settings.proxy.plugins)
    notes += plugin_notes(loaded, settings.proxy.plugins, str(path), known)
    proxy, rows = settings.proxy, found or _from_file(settings)
    authenticates = any("authenticate" in plugin.hooks for plugin in loaded)
    warnings = list(exposure(proxy, authenticates=authenticates))
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
        upstreams, enabled = count(len(proxy.upstreams), "upstream"), count(len(loaded), "plugin")
        put(f"ok: {escape(str(path))}: {upstreams}, {enabled}")
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
            put(f"note: `{command('start')}` will refuse this file, because mcp.proxy.enable is false")
    if failed:
        raise Failed(f"{len(failed)} of {count(len(found), 'upstream')} failed: {', '.join(failed)}")


def _require_protection(settings: Config, loaded: Sequence[LoadedPlugin]) -> None:
    """Raise `ConfigError` if others could use the gateway unauthenticated, `PluginError` for a bad authenticator."""
    authenticators = Chain(loaded).authenticators
    reason = unprotected(settings.proxy, authenticates=bool(authenticators))
    reason = reason or passes_credentials_on(settings.proxy, authenticators.headers)
    if reason is not None:
        raise ConfigError([reason])


def _from_file(config: Config) -> Sequence[Mapping[str, Any]]:
    """The upstreams as the file has them; unused ones have a `state`."""
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


def _names(config: Config) -> frozenset[str]:
    return frozenset(one.name for one in (*config.proxy.upstreams, *config.disabled))


async def _try_upstreams(path: Path, config: Config) -> tuple[Sequence[Mapping[str, Any]], list[str], list[Tool]]:
    """Connect once; returns the state of each upstream, the notes on replicas and profiles, and the published tools."""
    from gateway_core.cli.tools.listing import tools_in  # noqa: PLC0415 - only needed with `--connect`

    async with local_gateway(config) as gateway:
        answer = gateway.tools()
        catalog = gateway.catalog
        remarks = catalog.profiles.all_remarks(catalog.snapshot)
        notes = [*answer["notes"], *with_lines(path, config, remarks)]
        return gateway.status()["upstreams"], notes, tools_in(answer)


def _line(one: Mapping[str, Any]) -> str:
    name = escape(one["name"])
    if one["state"] == "disabled":
        return f"  disabled  {name}"
    if one["state"] == "misconfigured":
        return f"  {painted('misconfigured', RED)}  {name}  {escape(one['last_error'])}"
    target = escape(one["target"])
    login = "" if one["login"] is None else escape(login_note(one))
    if one["state"] in {"healthy", "idle"}:
        server, tools = escape(one["server"] or "unnamed server"), count(one["tools"], "tool")
        said = painted("ok    ", STATE_COLOURS["healthy"])
        words = f"{server}, {one['era']} {one['protocol_version']}, {tools}"
        if one["era"] is None:
            words = "it serves users only"
        return f"  {said}  {name}  {target}  {words}{f'; {login}' if login else ''}"
    if one["state"] == "needs_login":
        return f"  {painted('login ', STATE_COLOURS['needs_login'])}  {name}  {target}  {login}"
    return (
        f"  {painted('failed', RED)}  {name}  {target}  {escape(one['last_error'] or 'no answer yet: ' + one['state'])}"
    )
