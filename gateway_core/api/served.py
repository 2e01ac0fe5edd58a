"""What stands behind a name that an agent uses: the upstreams that serve it, and their own name for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from gateway_core.mcp.literals import Kind

KINDS: Final[Mapping[str, Kind]] = {
    "tools/call": "tool",
    "tools/list": "tool",
    "prompts/get": "prompt",
    "prompts/list": "prompt",
    "resources/read": "resource",
    "resources/subscribe": "resource",
    "resources/list": "resource",
    "resources/templates/list": "template",
    "tasks/get": "tool",
    "tasks/update": "tool",
    "tasks/cancel": "tool",
}
"""Method -> what its name, or the names in its list, are. A task belongs to the tool that created it."""


class Named(Protocol):
    """An upstream."""

    @property
    def name(self) -> str: ...


class Served(Protocol):
    """The result of looking a name up."""

    @property
    def original(self) -> str:
        """The upstreams' own name."""

    @property
    def upstreams(self) -> Sequence[Named]:
        """The upstreams that serve it, in file order."""


class Published(msgspec.Struct, frozen=True):
    """A name in a list of the gateway, and the upstreams that serve it."""

    name: str
    """The published name of a tool or prompt, a resource's URI, or a URI template."""
    original_name: str
    """The name its upstreams use."""
    upstreams: tuple[str, ...]
    """Names of the upstreams that serve it, in file order."""
