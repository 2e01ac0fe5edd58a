"""The sessions of agents of revisions up to 2025-11-25."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict, cast

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.shapes import OpenSession


class OpenSessions(Protocol):
    """The sessions that are open."""

    def listing(self) -> Sequence[Mapping[str, Any]]: ...
    def end_by_key(self, key: str) -> bool:
        """End a session. Returns whether there is one with this key."""


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def sessions(self) -> OpenSessions: ...


class Sessions(TypedDict):
    """The sessions that are open."""

    sessions: list[OpenSession]


class SessionEnded(TypedDict):
    """The key of the session that was ended."""

    ended: str


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The sessions."""

    async def sessions(_: Asked[None, None]) -> Sessions:
        found = operations.sessions.listing()
        return {"sessions": [cast("OpenSession", one) for one in found]}

    async def end(asked: Asked[None, None]) -> SessionEnded:
        if not operations.sessions.end_by_key(asked.names["key"]):
            raise Problem(404, f"there is no session {asked.names['key'][:100]!r}; it may have ended")
        return {"ended": asked.names["key"]}

    return (
        Endpoint("GET", "/admin/sessions", "read", "The sessions of agents", Sessions, sessions),
        Endpoint(
            "POST",
            "/admin/sessions/{key}/end",
            "change",
            "End a session, with its calls and streams",
            SessionEnded,
            end,
            problems={404: "No session has this key"},
        ),
    )
