"""Checks of the lists of tables in a file: unique names, and the profiles. They assume nothing about types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway_core.config.report import Problem
from gateway_core.config.source import Path

_PROXY: Final[Path] = ("mcp", "proxy")


def list_in(table: dict[str, Any], key: str) -> list[Any]:
    """The list at a key; empty if there is none."""
    value = table.get(key)
    return value if isinstance(value, list) else []


def tables_in(table: dict[str, Any], key: str) -> list[tuple[int, dict[str, Any]]]:
    """The tables in the list at a key, each with its index."""
    return [(index, item) for index, item in enumerate(list_in(table, key)) if isinstance(item, dict)]


def check_names(
    tables: list[tuple[int, dict[str, Any]]], path: Path, lines: dict[Path, int], key: str = "name"
) -> Iterator[Problem]:
    """Yield the problems of tables that have the same `key`. `path`: the path of their list."""
    seen: dict[str, int] = {}
    advice = "names must be unique; choose another" if key == "name" else "put all changes into one table"
    for index, table in tables:
        name = table.get(key)
        if not isinstance(name, str):
            continue
        if name in seen:
            line = lines.get((*path, seen[name], key))
            where = f" on line {line}" if line else ""
            yield Problem((*path, index, key), f"is taken{where}: {advice}")
        seen.setdefault(name, index)


def check_profiles(proxy: dict[str, Any], lines: dict[Path, int]) -> Iterator[Problem]:
    """Yield the problems between the profiles of `[mcp.proxy]`, and between the keys of each."""
    profiles, first = tables_in(proxy, "profiles"), None
    yield from check_names(profiles, (*_PROXY, "profiles"), lines)
    for index, profile in profiles:
        path: Path = (*_PROXY, "profiles", index)
        overrides = tables_in(profile, "overrides")
        for key in ("tool", "name"):
            yield from check_names(overrides, (*path, "overrides"), lines, key)
        for number, override in overrides:
            fixed, defaults = override.get("fixed"), override.get("defaults")
            if isinstance(fixed, dict) and isinstance(defaults, dict):
                for name in fixed.keys() & defaults.keys():
                    yield Problem((*path, "overrides", number, "defaults", name), "is fixed as well; remove one")
        if profile.get("default") is True:
            if first is not None:
                yield Problem((*path, "default"), f'is true for profile "{first}" as well; remove one')
            first = profile.get("name")
