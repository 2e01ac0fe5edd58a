"""What plugins note about their settings, for `rad mcp proxy check`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from gateway_core.api.notes import Known, Note
from gateway_core.config import PluginEntry
from gateway_core.errors import FileProblem
from gateway_core.hooks.failures import brief
from gateway_core.hooks.implementations import LoadedPlugin
from gateway_core.hooks.settings import EntryReport, source_of

MAX_NOTES: Final = 100
MAX_NOTE: Final = 1000
"""Bounds of the notes of a plugin: their number, and the characters of each."""


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
