"""Placeholders without a value: which of them stop the start, and which only their upstream.

`on_missing = "skip"` makes an upstream **misconfigured** if one of its variables is not set or one of its files cannot
be read: it keeps its place and its names, and is never connected to. What is switched off (`enabled = false`) needs no
values at all. A malformed placeholder is an error everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gateway_core.config.models import ProxyConfig
from gateway_core.config.placeholders.interpolate import Interpolated
from gateway_core.config.report import Problem
from gateway_core.config.source import Path, line_of, show

_LISTS: Final = ("upstreams", "plugins")
_NEEDED: Final = frozenset({"name", "transport", "enabled", "on_missing"})
"""Keys of an entry without which it cannot even be listed."""
_HINT: Final = 'to start without this upstream instead, write on_missing = "skip" in its table'


@dataclass(slots=True)
class Unfilled:
    """The placeholders of a file that have no value."""

    problems: list[Problem] = field(default_factory=list)
    """The errors among them."""
    paths: set[Path] = field(default_factory=set)
    """The paths of all of them."""
    _dropped: set[Path] = field(default_factory=set)
    """Keys of skipped entries that hold such a placeholder."""
    _reasons: dict[int, list[str]] = field(default_factory=dict)
    """Index of a misconfigured upstream -> what is missing."""

    @classmethod
    def of(cls, filled: Interpolated, proxy: Any, lines: dict[Path, int]) -> Unfilled:
        """Sort the problems of `filled`. `proxy`: the table `[mcp.proxy]`, with values filled in."""
        found, hinted = cls(paths={path for path, _ in filled.problems}), False
        for path, message in filled.problems:
            entry = _entry(path, proxy)
            skipped = entry is not None and path not in filled.malformed and path[4] not in _NEEDED
            if not skipped or not _may_miss(path, proxy, entry):
                hint = ""
                if not hinted and skipped and entry is not None and _may_be_skipped(path, proxy, entry):
                    hint, hinted = f"; {_HINT}", True
                found.problems.append(Problem(path, message + hint, unset=path not in filled.malformed))
                continue
            found._dropped.add(path[:5])
            if path[2] == "upstreams" and isinstance(index := path[3], int):
                line = line_of(lines, path)
                found._reasons.setdefault(index, []).append(f"{show(path[4:])} (line {line}): {message}")
        return found

    def without(self, data: dict[str, Any]) -> dict[str, Any]:
        """`data` without the keys of skipped entries that have no value."""
        if not self._dropped:
            return data
        proxy = dict(data["mcp"]["proxy"])
        for name in _LISTS:
            if isinstance(entries := proxy.get(name), list):
                proxy[name] = [self._kept(entry, ("mcp", "proxy", name, index)) for index, entry in enumerate(entries)]
        return {**data, "mcp": {**data["mcp"], "proxy": proxy}}

    def _kept(self, entry: Any, path: Path) -> Any:
        if not isinstance(entry, dict):
            return entry
        return {key: value for key, value in entry.items() if (*path, key) not in self._dropped}

    def marked(self, proxy: ProxyConfig) -> ProxyConfig:
        """`proxy` in which each misconfigured upstream says what is missing."""
        return proxy.model_copy(update={"upstreams": tuple(self._marked(proxy))})

    def _marked(self, proxy: ProxyConfig) -> Iterator[Any]:
        for index, upstream in enumerate(proxy.upstreams):
            reasons = self._reasons.get(index)
            yield upstream if reasons is None else upstream.lacking("; ".join(reasons))


def _entry(path: Path, proxy: Any) -> dict[str, Any] | None:
    """The upstream or plugin that a path is inside of; None for other paths."""
    if path[:2] != ("mcp", "proxy") or len(path) < 5 or path[2] not in _LISTS:
        return None
    entry = proxy[path[2]][path[3]]
    return entry if isinstance(entry, dict) else None


def _may_miss(path: Path, proxy: dict[str, Any], entry: dict[str, Any] | None) -> bool:
    """Whether a value may be missing: its entry is switched off, or is an upstream that may be skipped."""
    if entry is None:
        return False
    if entry.get("enabled") is False:
        return True
    return path[2] == "upstreams" and entry.get("on_missing", proxy.get("on_missing")) == "skip"


def _may_be_skipped(path: Path, proxy: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether `path` is in an upstream that `on_missing` may leave out, and the file does not set that key."""
    return path[2] == "upstreams" and "on_missing" not in {**proxy, **entry}
