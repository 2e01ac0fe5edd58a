"""The description of the API itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint
from gateway_core.control.openapi import document
from gateway_core.hooks.pages import PluginPage


class Listener(Protocol):
    """What this endpoint needs from the listener."""

    @property
    def port(self) -> int: ...


class Operations(Protocol):
    """What this endpoint needs from the gateway."""

    @property
    def pages(self) -> Mapping[str, PluginPage]: ...
    @property
    def control(self) -> Listener: ...


def endpoints(operations: Operations, everything: Callable[[], Sequence[AnyEndpoint]]) -> tuple[AnyEndpoint, ...]:
    """The description. `everything`: returns all endpoints, this one included."""

    async def describe(_: Asked[None, None]) -> dict[str, Any]:
        return document(everything(), operations.pages, operations.control.port)

    return (Endpoint("GET", "/admin/openapi.json", "read", "This description (OpenAPI 3.1)", dict[str, Any], describe),)
