"""Probes for process managers and load balancers."""

from __future__ import annotations

from typing import Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def ready(self) -> bool: ...


class Health(TypedDict):
    """That the process answers."""

    status: str


class Readiness(TypedDict):
    """Whether agents are served."""

    ready: bool


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The probes, which need no token."""

    async def health(_: Asked[None, None]) -> Health:
        return {"status": "ok"}

    async def readiness(_: Asked[None, None]) -> Readiness:
        return {"ready": operations.ready}

    return (
        Endpoint("GET", "/healthz", "open", "Whether the process answers", Health, health),
        Endpoint(
            "GET",
            "/readyz",
            "open",
            "Whether agents are served",
            Readiness,
            readiness,
            status=lambda found: 200 if found["ready"] else 503,
            statuses={200: "Agents are served", 503: "No upstream is healthy or idle, or the gateway stops"},
        ),
    )
