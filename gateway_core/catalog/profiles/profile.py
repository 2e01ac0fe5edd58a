"""One profile: what it shows, and what it changes about tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from msgspec import Raw

from gateway_core.api import Kind, Tool
from gateway_core.catalog.entry import Entry
from gateway_core.catalog.profiles.globs import Visible, VisibleUris
from gateway_core.catalog.snapshot import Target
from gateway_core.config import OverrideConfig, ProfileConfig
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.preset import Preset, without_properties

_SCHEMA: Final = "inputSchema"


class Profile:
    """The rules of one profile, compiled. Everything is named by its published name and by `upstream:name`."""

    def __init__(self, config: ProfileConfig) -> None:
        self.config: Final = config
        self.name: Final = config.name
        self._globs: Final[Mapping[Kind, Visible]] = {
            "tool": Visible(config.tools),
            "prompt": Visible(config.prompts),
            "resource": VisibleUris(config.resources),
            "template": Visible(config.resources),
        }
        self._overrides: Final = {override.tool: override for override in config.overrides}
        self._presets: Final = {override.tool: _preset(override) for override in config.overrides}

    @property
    def has_resources(self) -> bool:
        """Whether it may show resources that no list has."""
        return bool(self.config.resources)

    def shows(self, entry: Entry) -> bool:
        """Whether agents of the profile see an entry of the gateway's snapshot."""
        return self._globs[entry.kind].shows(names_of(entry))

    def admits(self, uri: str, target: Target, *, by_template: bool) -> bool:
        """Whether agents may use the URI of a resource that no list has. A template that they see brings its URIs."""
        texts = [uri, *(f"{upstream.name}:{target.original}" for upstream in target.upstreams)]
        globs = self._globs["resource"]
        return not globs.hides(texts) if by_template else globs.shows(texts)

    def wish(self, entry: Entry) -> str:
        """The name that the profile wants for a tool; its own without one."""
        override = self._override(entry)
        return entry.name if override is None or override.name is None else override.name

    def shaped(self, entry: Entry, name: str) -> Entry:
        """A tool as agents of the profile see it, under the name that it got."""
        override = self._override(entry)
        if override is None and name == entry.name:
            return entry
        preset = None if override is None else self._presets[override.tool]
        if not entry.raw:
            return replace(entry, name=name, preset=preset)
        hidden = frozenset[str]() if preset is None else preset.names
        members = jsonrpc.members(entry.raw)
        members["name"] = Raw(jsonrpc.encode(name))
        if override is not None:
            _describe(members, override)
        if hidden:
            members[_SCHEMA] = _visible(members.get(_SCHEMA, Raw(b"{}")), hidden)
        legacy = dict(entry.legacy)
        if hidden and (schema := legacy.get(_SCHEMA)) is not None:
            legacy[_SCHEMA] = bytes(_visible(Raw(schema), hidden))
        raw = jsonrpc.encode(members)
        tool = Tool(entry.published, entry.original, raw, tuple(upstream.name for upstream in entry.upstreams))
        return replace(entry, name=name, raw=raw, tool=tool, legacy=legacy, preset=preset)

    def _override(self, entry: Entry) -> OverrideConfig | None:
        if not self._overrides:
            return None
        return next((found for name in names_of(entry) if (found := self._overrides.get(name)) is not None), None)


def names_of(entry: Entry) -> list[str]:
    """The names by which the keys of a profile mean an entry."""
    return [entry.published, *(f"{upstream.name}:{entry.original}" for upstream in entry.upstreams)]


def _preset(override: OverrideConfig) -> Preset | None:
    if not override.fixed and not override.defaults:
        return None
    fixed, defaults = (
        {name: Raw(jsonrpc.encode(value)) for name, value in given.items()}
        for given in (override.fixed, override.defaults)
    )
    return Preset(fixed, defaults)


def _describe(members: dict[str, Raw], override: OverrideConfig) -> None:
    """Put the texts and hints of an override into a definition."""
    hints: dict[str, Any] = dict(override.annotations)
    if override.title is not None:
        members["title"] = Raw(jsonrpc.encode(override.title))
        hints.setdefault("title", override.title)  # clients up to 2025-03-26 read it there
    if override.description is not None:
        members["description"] = Raw(jsonrpc.encode(override.description))
    if hints:
        own = jsonrpc.value(members["annotations"]) if "annotations" in members else {}
        members["annotations"] = Raw(jsonrpc.encode({**(own if isinstance(own, dict) else {}), **hints}))


def _visible(schema: Raw, hidden: frozenset[str]) -> Raw:
    """A schema without hidden properties; one that is no object stays."""
    found = jsonrpc.value(schema)
    return Raw(jsonrpc.encode(without_properties(found, hidden))) if isinstance(found, dict) else schema
