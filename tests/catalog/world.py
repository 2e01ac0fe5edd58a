"""A catalog whose upstreams are reached, change their lists and restart when a test says so."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

from gateway_core.api import Claim, Kind, ToolConflict
from gateway_core.catalog import Catalog
from gateway_core.catalog.memory import Memory
from gateway_core.config import ProxyConfig, UpstreamConfig
from gateway_core.sealing import Seal
from gateway_core.upstream.lists.fetched_lists import NAME_KEYS, FetchedLists, Item
from gateway_core.upstream.upstream import Upstream

Lists = Mapping[str, Sequence[str]]
"""Upstream -> the names of its tools; a name's schema is what stands after a `|`."""


def prefixed(conflict: ToolConflict) -> Mapping[str, Claim]:
    """What `conflict_autoprefix` does."""
    first, *others = conflict.claims
    return {conflict.name: first} | {conflict.qualified(claim): claim for claim in others}


def always_prefixed(conflict: ToolConflict) -> Mapping[str, Claim]:
    """What `conflict_autoprefix` does with `prefix = "always"`."""
    return {conflict.qualified(claim): claim for claim in conflict.claims}


def item(text: str, kind: Kind) -> Item:
    name, _, identity = text.partition("|")
    definition = {"name": name, NAME_KEYS[kind]: name}
    return Item(kind, name, json.dumps(definition).encode(), identity)


class World:
    """A gateway's catalog and memory, without connections."""

    def __init__(
        self,
        order: Sequence[str],
        *,
        path: Path | None = None,
        kind: Kind = "tool",
        resolve: Callable[[ToolConflict], Mapping[str, Claim] | None] = prefixed,
        each: Mapping[str, Mapping[str, Any]] | None = None,
        disabled: Sequence[str] = (),
        **proxy: Any,
    ) -> None:
        configs = tuple(
            UpstreamConfig(**{"name": name, "transport": "stdio", "command": "x", **(each or {}).get(name, {})})
            for name in order
        )
        self.config = ProxyConfig(upstreams=configs, **proxy)
        self.kind: Kind = kind
        self.upstreams = {one.name: Upstream(one, self.config, number) for number, one in enumerate(configs)}
        self.memory = Memory(self.config, path, disabled=disabled)
        self.catalog = Catalog(self.config, list(self.upstreams.values()), resolve, Seal(), self.memory)

    def offer(self, upstream: str, *texts: str) -> None:
        """That upstream is reached, or says that its list changed."""
        items = {self.kind: tuple(item(text, self.kind) for text in texts)}
        self.upstreams[upstream].published.fetched = FetchedLists(items)
        self.catalog.rebuild()

    def serve(self, upstream: str, resources: Sequence[str] = (), templates: Sequence[str] = ()) -> None:
        """That upstream is reached and lists these URIs and URI templates."""
        lists: dict[Kind, Sequence[str]] = {"resource": resources, "template": templates}
        items = {kind: tuple(item(uri, kind) for uri in uris) for kind, uris in lists.items()}
        self.upstreams[upstream].published.fetched = FetchedLists(items)
        self.catalog.rebuild()

    @property
    def names(self) -> dict[str, tuple[list[str], str]]:
        """Listed name -> upstreams, and their own name."""
        found = self.catalog.snapshot.entries(self.kind)
        return {name: ([one.name for one in entry.upstreams], entry.original) for name, entry in found.items()}

    @property
    def reserved(self) -> dict[str, tuple[list[str], str]]:
        """The same for names of upstreams that were not reached yet."""
        found = self.catalog.snapshot.awaited.get(self.kind, {})
        return {name: ([one.name for one in entry.upstreams], entry.original) for name, entry in found.items()}


TOOLS = 1500
MANY = [f"tool{number}" for number in range(TOOLS)]


def large_world() -> World:
    """Two upstreams with the same tools, which were not published yet."""
    world = World(["one", "two"])
    for upstream in world.upstreams.values():
        upstream.published.fetched = FetchedLists({"tool": tuple(item(name, "tool") for name in MANY)})
    return world


class WorkPerTurn:
    """Counts the Python functions that each turn of the loop calls."""

    def __init__(self) -> None:
        self.turns = [0]

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._turn)
        sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._next.cancel()

    def _called(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self.turns[-1] += 1

    def _turn(self) -> None:
        self.turns.append(0)
        self._next = self._loop.call_soon(self._turn)
