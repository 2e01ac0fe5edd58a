"""What plugins note about their settings, and which default plugins a list leaves out, for `rad mcp proxy check`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from gateway_core.api.notes import Known, Note
from gateway_core.config import DEFAULT_PLUGINS, PluginEntry
from gateway_core.errors import FileProblem
from gateway_core.hooks.failures import brief
from gateway_core.hooks.implementations import LoadedPlugin
from gateway_core.hooks.settings import EntryReport, source_of

MAX_NOTES: Final = 100
MAX_NOTE: Final = 1000
"""Bounds of the notes of a plugin: their number, and the characters of each."""

_REPLACED_BY: Final = {"routing_priority": "route_tool", "conflict_autoprefix": "resolve_conflict"}
"""Default plugin -> the hook that only one plugin implements, so that a list has another one in its place."""


def left_out(plugins: Sequence[LoadedPlugin], entries: Sequence[PluginEntry]) -> list[str]:
    """A note on the default plugins that the list of a file leaves out without replacing them, if there are any.

    `entries`: those of the file, from which `plugins` were loaded. An empty list and a disabled entry are intended.
    """
    if all(entry.line is None for entry in entries):  # the file has no list
        return []
    taken = {hook for plugin in plugins for hook in plugin.hooks}
    named = {entry.name for entry in entries}
    missing = [name for name in DEFAULT_PLUGINS if name not in named and _REPLACED_BY.get(name) not in taken]
    if not missing:
        return []
    return [
        f"the list of plugins replaces the default set and leaves out {', '.join(missing)}; add an entry for each, "
        "with enabled = false for those that you do without"
    ]


def notes(
    plugins: Sequence[LoadedPlugin], entries: Sequence[PluginEntry], source: str, known: Known
) -> list[FileProblem]:
    """The notes of the enabled plugins that have the optional method `notes`, in the order of the file.

    `entries`: those of the file `source`, from which `plugins` were loaded.
    """
    found: list[FileProblem] = []
    loaded = {plugin.name: plugin for plugin in plugins}
    for index, entry in enumerate(entries):
        plugin = loaded.get(entry.name) if entry.enabled else None
        if plugin is not None:
            _add(plugin, EntryReport(found, source, index, entry), known)
    return found


def groups_of(plugins: Sequence[LoadedPlugin]) -> frozenset[str] | None:
    """The groups of the agents that the authenticating plugins prove; None if one of them does not tell.

    A plugin tells in its optional attribute `known_groups`.
    """
    found: set[str] = set()
    for plugin in plugins:
        if "authenticate" not in plugin.hooks:
            continue
        try:
            given = plugin.instance.known_groups  # type: ignore[attr-defined]
            found.update([given] if isinstance(given, str) else given)
        except Exception:  # noqa: BLE001 - a plugin that has none, or whose bug must not hide the notes
            return None
    return frozenset(found)


def _add(plugin: LoadedPlugin, report: EntryReport, known: Known) -> None:
    method: Any = getattr(plugin.instance, "notes", None)
    if not callable(method):
        return
    try:
        given = list(islice(method(known), MAX_NOTES))
    except Exception as error:  # noqa: BLE001 - a plugin's bug must not hide the other notes
        report(f"its notes cannot be read: {brief(error)}")
        return
    for note in given:
        if not isinstance(note, Note):
            report(f"its notes cannot be read: one of them is a {type(note).__name__}")
            continue
        source = source_of(report.entry, note.setting) if note.setting else ""
        message = f"the value from {source} is probably a mistake" if source else note.message[:MAX_NOTE]
        report(f"{note.setting}: {message}" if note.setting else message, note.setting)
