"""What `check` says about profiles: names that no profile has, and keys without effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway_core.config import Config
from gateway_core.config.source import line_of, scan

if TYPE_CHECKING:
    from gateway_core.catalog.profiles.remarks import Remark

_KEYS: Final = frozenset({"profile", "profiles"})
"""Settings of plugins that name profiles."""


def unknown_profiles(config: Config) -> list[str]:
    """Warnings about profiles that settings of plugins name, such as keys and rules, and that the file does not have.

    None without any profile in the file: then these names are only claims.
    """
    known = {profile.name for profile in config.proxy.profiles}
    if not known:
        return []
    return [
        f"{config.path}:{plugin.key_lines.get(where, plugin.line)}: plugin {plugin.name}: {where}: no profile {name!r}"
        for plugin in config.proxy.plugins
        for where, name in _named(plugin.settings, "")
        if name not in known
    ]


def _named(value: Any, path: str, key: str = "") -> Iterator[tuple[str, str]]:
    """The profiles that settings name, each with the dotted path of its setting."""
    if isinstance(value, str):
        if key in _KEYS:
            yield path, value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield from _named(member, f"{path}.{name}" if path else name, name)
    elif isinstance(value, list | tuple):
        for index, element in enumerate(value):
            yield from _named(element, f"{path}[{index}]", key)


def with_lines(path: Path, config: Config, remarks: Mapping[str, list[Remark]]) -> list[str]:
    """Remarks with the file and the line of the key that each is about."""
    if not any(remarks.values()):
        return []
    lines = scan(path.read_text(encoding="utf-8-sig"))
    places = {profile.name: index for index, profile in enumerate(config.proxy.profiles)}
    return [
        f"{path}:{line_of(lines, ('mcp', 'proxy', 'profiles', places[name], *remark.path))}: {remark.text}"
        for name, found in remarks.items()
        for remark in found
    ]
