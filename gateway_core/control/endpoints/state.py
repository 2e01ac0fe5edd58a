"""What the gateway does now."""

from __future__ import annotations

from typing import Any, Protocol

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    def status(self) -> dict[str, Any]: ...


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The state of the gateway."""

    async def status(_: Asked[None, None]) -> dict[str, Any]:
        return operations.status()

    return (
        Endpoint("GET", "/admin/status", "read", "The state of the gateway and its upstreams", dict[str, Any], status),
    )
