"""The identity of the gateway as an MCP server: the merged capabilities of its upstreams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from gateway_core.api import Era
from gateway_core.mcp.cache_hints import Hint
from gateway_core.mcp.names import CHANGING, EXTENSIONS, IMPLEMENTATION, TASKS_EXTENSION
from gateway_core.upstream.notifications.subscription import announces_updates
from gateway_core.upstream.transports.handshakes import MAX_INSTRUCTIONS
from gateway_core.upstream.upstream import Upstream

DISCOVER_TTL_MS: Final = 60_000
"""Longest cache lifetime of the `server/discover` result, in milliseconds; upstreams come and go."""
_MODERN: Final = ("modern", "modern")
_ABSENT: Final = object()
_HEADING: Final = re.compile(r"^( {0,3}#{1,6})(?=[ \t]|$)", re.MULTILINE)
_UNDERLINE: Final = re.compile(r"^ {0,3}=+[ \t]*$", re.MULTILINE)
"""Makes a first-level heading of the line above."""


def identity(
    upstreams: Sequence[Upstream], era: Era, *, title: str | None = None, instructions: str | None = None
) -> dict[str, Any]:
    """`capabilities`, `serverInfo` and `instructions` for `initialize` (legacy) and `server/discover` (modern).

    `title`, `instructions`: those of a profile, in place of the gateway's and of the upstreams'.
    """
    capabilities: dict[str, Any] = {capability: {"listChanged": True} for capability in CHANGING}
    if any(announces_updates(upstream.capabilities) for upstream in upstreams):
        capabilities["resources"]["subscribe"] = True
    if any("logging" in upstream.capabilities for upstream in upstreams):
        capabilities["logging"] = {}
    if any("completions" in upstream.capabilities for upstream in upstreams):
        capabilities["completions"] = {}
    extensions = _extensions(upstreams, era)
    if extensions:
        capabilities["extensions"] = extensions
    server = dict(IMPLEMENTATION) if title is None else {**IMPLEMENTATION, "title": title}
    found: dict[str, Any] = {"capabilities": capabilities, "serverInfo": server}
    said = [(upstream.name, _cut(upstream.instructions)) for upstream in upstreams if upstream.instructions is not None]
    if instructions is not None:
        found["instructions"] = instructions
    elif len(upstreams) == 1 and said:
        found["instructions"] = said[0][1]
    elif said:
        found["instructions"] = "\n\n".join(f"# {name}\n{_below_heading(text)}" for name, text in said)
    return found


def discover_hint(upstreams: Sequence[Upstream], *, public: bool) -> Hint:
    """The cache hint of `server/discover`: the merged hints of all upstreams, at most `DISCOVER_TTL_MS`.

    `public`: whether all agents get the same result.
    """
    merged = Hint(DISCOVER_TTL_MS, public)
    for upstream in upstreams:
        merged = merged.merged(upstream.info.hint if upstream.info is not None else Hint())
    return merged


def _cut(text: str) -> str:
    return text if len(text) <= MAX_INSTRUCTIONS else f"{text[:MAX_INSTRUCTIONS]}…"


def _below_heading(text: str) -> str:
    """Markdown whose headings are below the first level, so that no upstream begins a section of another."""
    lines = "\n".join(text.splitlines())
    return _UNDERLINE.sub(lambda found: found.group().replace("=", "-"), _HEADING.sub(r"\1#", lines))


def _extensions(upstreams: Sequence[Upstream], era: Era) -> dict[str, Any]:
    """The extensions that any upstream offers and that work through the gateway.

    Only settings on which all upstreams with the extension agree are kept, because an agent cannot tell which upstream
    has a setting. Tasks need a modern agent and a modern upstream (SEP-2663, Backward Compatibility).
    """
    merged: dict[str, Any] = {}
    for upstream in upstreams:
        offered = upstream.capabilities.get("extensions")
        if not isinstance(offered, dict):
            continue
        for name in sorted(EXTENSIONS & offered.keys()):
            settings = offered[name]
            if not isinstance(settings, dict) or (name == TASKS_EXTENSION and (era, upstream.facts.era) != _MODERN):
                continue
            known = merged.get(name, settings)
            merged[name] = {key: value for key, value in settings.items() if known.get(key, _ABSENT) == value}
    return merged
