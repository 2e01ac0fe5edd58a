"""Calls in flight, and calls that wait for their agents."""

from __future__ import annotations

from typing import Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.shapes import LiveCall


class LiveCalls(Protocol):
    """The calls that have not ended."""

    def listing(self) -> list[LiveCall]: ...
    def cancel(self, exchange_id: str) -> bool:
        """End a call. Returns whether there is one with this id."""


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def live(self) -> LiveCalls: ...


class Calls(TypedDict):
    """The calls that have not ended."""

    calls: list[LiveCall]


class Cancelled(TypedDict):
    """The id of the call that was cancelled."""

    cancelled: str


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The calls that have not ended."""

    async def calls(_: Asked[None, None]) -> Calls:
        return {"calls": operations.live.listing()}

    async def cancel(asked: Asked[None, None]) -> Cancelled:
        if not operations.live.cancel(asked.names["id"]):
            raise Problem(404, f"there is no call {asked.names['id'][:100]!r}; it may have ended")
        return {"cancelled": asked.names["id"]}

    return (
        Endpoint("GET", "/admin/calls", "read", "The calls in flight, and those that wait for people", Calls, calls),
        Endpoint(
            "POST",
            "/admin/calls/{id}/cancel",
            "change",
            "Cancel a call",
            Cancelled,
            cancel,
            problems={404: "No call in flight has this id"},
        ),
    )
