"""What the gateway does now."""

from __future__ import annotations

from typing import Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint
from gateway_core.control.shapes import PluginWithSettings, Status


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    def status(self) -> Status: ...
    def plugins(self) -> list[PluginWithSettings]: ...


class Plugins(TypedDict):
    """The enabled plugins, in the order in which they judge a call."""

    plugins: list[PluginWithSettings]


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The state of the gateway."""

    async def status(_: Asked[None, None]) -> Status:
        return operations.status()

    async def plugins(_: Asked[None, None]) -> Plugins:
        return {"plugins": operations.plugins()}

    return (
        Endpoint("GET", "/admin/status", "read", "The state of the gateway and its upstreams", Status, status),
        Endpoint("GET", "/admin/plugins", "read", "The enabled plugins and their settings", Plugins, plugins),
    )
