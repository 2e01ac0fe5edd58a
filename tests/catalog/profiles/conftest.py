"""A catalog of three upstreams, and profiles of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gateway_core.api import Claim, Kind, ToolConflict
from gateway_core.catalog.snapshot import Snapshot
from gateway_core.config import ProfileConfig
from gateway_core.upstream.lists.fetched_lists import NAME_KEYS, FetchedLists, Item
from tests.catalog.world import World, always_prefixed, prefixed

SEARCH = {
    "name": "search",
    "title": "Search",
    "description": "Search issues.",
    "inputSchema": {
        "type": "object",
        "properties": {"project": {"type": "string"}, "query": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["project", "query"],
    },
    "annotations": {"title": "Search", "openWorldHint": True},
}


def tool(name: str, **members: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **members}


def items(kind: Kind, *definitions: dict[str, Any]) -> tuple[Item, ...]:
    key = NAME_KEYS[kind]
    return tuple(Item(kind, one[key], json.dumps(one).encode(), "") for one in definitions)


LISTS: dict[str, dict[Kind, tuple[Item, ...]]] = {
    "tickets": {
        "tool": items(
            "tool",
            SEARCH,
            tool("create"),
            tool("delete"),
            tool("chart", _meta={"ui": {"resourceUri": "ui://chart"}}),
        ),
        "resource": items("resource", {"uri": "ui://chart", "name": "c"}, {"uri": "t:one", "name": "o"}),
        "prompt": items("prompt", {"name": "triage"}),
    },
    "wiki": {
        "tool": items("tool", tool("search"), tool("read")),
        "resource": items("resource", {"uri": "wiki:home", "name": "h"}, {"uri": "wiki:secret", "name": "s"}),
        "template": items("template", {"uriTemplate": "wiki:pages/{name}", "name": "p"}),
        "prompt": items("prompt", {"name": "summary"}),
    },
    "clock": {"tool": items("tool", tool("now"))},
}


def resolve(conflict: ToolConflict) -> Mapping[str, Claim]:
    """Prefix tools and prompts, and mark only URIs that are not unique."""
    return (always_prefixed if conflict.kind in ("tool", "prompt") else prefixed)(conflict)


Make = Callable[..., World]


@pytest.fixture
def world() -> Make:
    """`world(profile, …)`: a catalog whose upstreams were all reached, with these profiles."""

    def make(*profiles: dict[str, Any], reached: bool = True, **options: Any) -> World:
        configs = tuple(ProfileConfig(**{"name": f"p{number}", **one}) for number, one in enumerate(profiles))
        made = World([*LISTS], resolve=resolve, profiles=configs, **options)
        if reached:
            for name, lists in LISTS.items():
                made.upstreams[name].published.fetched = FetchedLists(lists)
            made.catalog.rebuild()
        return made

    return make


def view(world: World, profile: str = "p0") -> Snapshot:
    """What agents of the profile see."""
    return world.catalog.profiles.of(world.catalog.snapshot, profile)
