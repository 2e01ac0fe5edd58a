"""Catalog entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gateway_core.api import Kind, Published, Tool
from gateway_core.mcp.preset import Preset
from gateway_core.upstream.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Entry:
    """One published tool, prompt, resource or template."""

    kind: Kind
    name: str
    """The name that agents use."""
    original: str
    """The name that its upstreams use."""
    raw: bytes
    """Its definition as agents see it."""
    upstreams: tuple[Upstream, ...]
    """Replicas that can serve it, in file order."""
    tool: Tool | None = field(default=None, compare=False)
    """Derived from the members above; not compared, because that would decode its definition."""
    mirrored: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """For a tool: the arguments that `Mcp-Param-*` headers mirror, see `Item.header_map`."""
    legacy: Mapping[str, bytes | None] = field(default_factory=dict)
    """Members that differ for legacy agents, see `Item.legacy`."""
    preset: Preset | None = field(default=None, compare=False)
    """The arguments that a profile sets for a tool."""

    @property
    def published(self) -> str:
        """The name in the gateway's own lists; a profile may give a tool another one."""
        return self.name if self.tool is None else self.tool.name

    def serves(self, upstream: str) -> bool:
        """Whether the named upstream is one of its replicas."""
        return any(found.name == upstream for found in self.upstreams)


class PublishedNames(Mapping[str, Published]):
    """The names of one list, as plugins see them."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> Published:
        entry = self._entries[name]
        return Published(entry.published, entry.original, tuple(upstream.name for upstream in entry.upstreams))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
