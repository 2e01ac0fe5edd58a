"""What operators do with one upstream."""

from __future__ import annotations

from functools import partial
from typing import Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.endpoints.applying import EDITED, Applied, applied
from gateway_core.control.endpoints.configuration import Edits


class Pool(Protocol):
    """What these endpoints need from the upstreams."""

    def drain(self, name: str, drained: bool) -> bool:
        """Keep new calls from an upstream, or let them come again. Returns whether there is one with this name."""


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def edits(self) -> Edits: ...
    @property
    def pool(self) -> Pool: ...
    def reconnect(self, name: str) -> bool:
        """Connect to an upstream again. Returns whether there is one with this name."""


class Reconnecting(TypedDict):
    """The name of the upstream."""

    reconnecting: str


class Draining(TypedDict):
    """The name of the upstream, and whether it gets no new calls now."""

    upstream: str
    drained: bool


_UNKNOWN = {404: "No enabled upstream has this name"}


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The upstreams."""

    async def reconnect(asked: Asked[None, None]) -> Reconnecting:
        if not operations.reconnect(asked.names["name"]):
            raise no_upstream(asked.names["name"], "enabled upstream")
        return {"reconnecting": asked.names["name"]}

    async def drain(drained: bool, asked: Asked[None, None]) -> Draining:
        if not operations.pool.drain(asked.names["name"], drained):
            raise no_upstream(asked.names["name"], "enabled upstream")
        return {"upstream": asked.names["name"], "drained": drained}

    async def enable(enabled: bool, asked: Asked[None, None]) -> Applied:
        found = await applied(asked, lambda: operations.edits.enable(asked.names["name"], enabled))
        if found is None:
            raise no_upstream(asked.names["name"])
        return found

    of_one = "/admin/upstreams/{name}"
    return (
        Endpoint(
            "POST",
            f"{of_one}/reconnect",
            "change",
            "Connect to an upstream again, and restart its process if it has one",
            Reconnecting,
            reconnect,
            problems=_UNKNOWN,
        ),
        Endpoint(
            "POST",
            f"{of_one}/drain",
            "change",
            "Keep new calls from an upstream until `resume` or a restart; calls in flight end",
            Draining,
            partial(drain, True),
            problems=_UNKNOWN,
        ),
        Endpoint(
            "POST",
            f"{of_one}/resume",
            "change",
            "Let new calls come to an upstream again",
            Draining,
            partial(drain, False),
            problems=_UNKNOWN,
        ),
        Endpoint(
            "POST",
            f"{of_one}/disable",
            "change",
            "Write `enabled = false` into the table of an upstream, and put it in force",
            Applied,
            partial(enable, False),
            problems={**EDITED, 404: "The file has no upstream with this name"},
        ),
        Endpoint(
            "POST",
            f"{of_one}/enable",
            "change",
            "Write `enabled = true` into the table of an upstream, and put it in force",
            Applied,
            partial(enable, True),
            problems={**EDITED, 404: "The file has no upstream with this name"},
        ),
    )


def no_upstream(name: str, kind: str = "upstream") -> Problem:
    """The answer if no upstream has the name."""
    return Problem(404, f"there is no {kind} {name[:100]!r}; `rad mcp proxy status` lists them")
