"""The sessions of agents of revisions up to 2025-11-25."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem


class OpenSessions(Protocol):
    """The sessions that are open."""

    def listing(self) -> list[dict[str, Any]]: ...
    def end_by_key(self, key: str) -> bool:
        """End a session. Returns whether there is one with this key."""


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def sessions(self) -> OpenSessions: ...


class Sessions(TypedDict):
    """The sessions that are open."""

    sessions: list[dict[str, Any]]


class Ended(TypedDict):
    """The key of the session that was ended."""

    ended: str


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The sessions."""

    async def sessions(_: Asked[None, None]) -> Sessions:
        return {"sessions": operations.sessions.listing()}

    async def end(asked: Asked[None, None]) -> Ended:
        if not operations.sessions.end_by_key(asked.names["key"]):
            raise Problem(404, "there is no such session")
        return {"ended": asked.names["key"]}

    return (
        Endpoint("GET", "/admin/sessions", "read", "The sessions of agents", Sessions, sessions),
        Endpoint(
            "POST",
            "/admin/sessions/{key}/end",
            "change",
            "End a session, with its calls and streams",
            Ended,
            end,
            problems={404: "No session has this key"},
        ),
    )
