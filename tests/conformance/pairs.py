"""What the suite is run against: which servers, directly or behind which gateway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import stage
from stage import Stage

LEGACY, MODERN = "2025-11-25", "2026-07-28"

Upstream = dict[str, Any]


def http(kind: str) -> Callable[[Stage], Upstream]:
    return lambda scene: {"name": kind, "transport": "http", "url": scene.server(kind)}


def stdio(kind: str) -> Callable[[Stage], Upstream]:
    program, *args = stage.command(kind)
    return lambda scene: {"name": kind, "transport": "stdio", "command": program, "args": args}


@dataclass(frozen=True, slots=True)
class Pair:
    """What the suite talks to: a reference server directly, or a gateway with these upstreams, the first one meant."""

    name: str
    revisions: tuple[str, ...]
    server: str
    upstreams: tuple[Callable[[Stage], Upstream], ...] = ()
    neighbours: Mapping[str, str] = field(default_factory=dict)
    """Prefix of the other upstreams' names -> the name that such a server calls itself."""

    def address(self, scene: Stage) -> str:
        if not self.upstreams:
            return scene.server(self.server)
        return scene.gateway([make(scene) for make in self.upstreams])


PAIRS = (
    Pair("direct dual", (LEGACY, MODERN), "dual"),
    Pair("direct legacy", (LEGACY,), "legacy"),
    Pair("direct modern", (MODERN,), "modern"),
    Pair("through http", (LEGACY, MODERN), "dual", (http("dual"),)),
    Pair("through stdio", (LEGACY, MODERN), "dual", (stdio("dual"),)),
    Pair(
        "beside",
        (LEGACY, MODERN),
        "dual",
        (http("dual"), stdio("legacy"), http("modern")),
        {"legacy__": "reference-legacy", "modern__": "reference-modern"},
    ),
    Pair("through legacy http", (LEGACY,), "legacy", (http("legacy"),)),
    Pair("through legacy stdio", (LEGACY,), "legacy", (stdio("legacy"),)),
    Pair("bridged to legacy", (MODERN,), "legacy", (http("legacy"),)),
    Pair("bridged to modern", (LEGACY,), "modern", (http("modern"),)),
    Pair("no-result-type", (MODERN,), "modern", (http("modern-without-result-type"),)),
)
