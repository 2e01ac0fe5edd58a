"""What operators do with one upstream."""

from __future__ import annotations

from typing import Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    def reconnect(self, name: str) -> bool:
        """Connect to an upstream again. Returns whether there is one with this name."""


class Reconnecting(TypedDict):
    """The name of the upstream."""

    reconnecting: str


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The upstreams."""

    async def reconnect(asked: Asked[None, None]) -> Reconnecting:
        if not operations.reconnect(asked.names["name"]):
            raise Problem(404, "there is no such upstream")
        return {"reconnecting": asked.names["name"]}

    return (
        Endpoint(
            "POST",
            "/admin/upstreams/{name}/reconnect",
            "change",
            "Connect to an upstream again, and restart its process if it has one",
            Reconnecting,
            reconnect,
            problems={404: "No enabled upstream has this name"},
        ),
    )
