"""Definitions that servers changed, added or removed, before and after."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Annotated, Protocol, TypedDict

import msgspec
from msgspec import Meta

from gateway_core.activity.definitions.changes import MAX_CHANGES, DefinitionChange
from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint


class Definitions(Protocol):
    """What these endpoints need of the changed definitions."""

    @property
    def unseen(self) -> int: ...
    @property
    def left_out(self) -> int: ...
    def latest(self, limit: int, admits: Callable[[DefinitionChange], bool]) -> list[DefinitionChange]: ...
    def mark_seen(self, ids: Collection[int]) -> int: ...


class Activity(Protocol):
    """What these endpoints need of the activity."""

    @property
    def definitions(self) -> Definitions: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def activity(self) -> Activity: ...


class ChangesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which changes to return."""

    limit: Annotated[int, Meta(ge=1, le=MAX_CHANGES, description="The most that the answer has; the latest ones")] = 100
    unseen: Annotated[bool, Meta(description="Only changes that no operator has marked as seen")] = False
    upstream: Annotated[str, Meta(description="Only changes of this upstream; empty: of all")] = ""


class DefinitionChanges(TypedDict):
    """Changed definitions, the latest first."""

    changes: list[DefinitionChange]
    unseen: Annotated[int, Meta(description="Changes that no operator has marked as seen, `left_out` included")]
    left_out: Annotated[int, Meta(description="Unseen changes that were dropped, because there was no room for them")]


class Seen(msgspec.Struct, forbid_unknown_fields=True):
    """Which changes an operator has seen."""

    ids: Annotated[list[int], Meta(max_length=MAX_CHANGES, description="Of changes; others are ignored")]


class SeenChanges(TypedDict):
    """What was marked."""

    seen: Annotated[int, Meta(description="Changes that were not marked before")]
    unseen: Annotated[int, Meta(description="Changes that are not marked now")]


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """Changed definitions."""

    async def changes(asked: Asked[ChangesQuery, None]) -> DefinitionChanges:
        query, definitions = asked.query, operations.activity.definitions

        def admits(change: DefinitionChange) -> bool:
            return query.upstream in ("", change.upstream) and not (query.unseen and change.seen)

        return {
            "changes": definitions.latest(query.limit, admits),
            "unseen": definitions.unseen,
            "left_out": definitions.left_out,
        }

    async def seen(asked: Asked[None, Seen]) -> SeenChanges:
        definitions = operations.activity.definitions
        marked = definitions.mark_seen(asked.body.ids)
        return {"seen": marked, "unseen": definitions.unseen}

    return (
        Endpoint(
            "GET",
            "/admin/definitions/changes",
            "read",
            "Definitions that servers changed, added or removed, before and after",
            DefinitionChanges,
            changes,
            query=ChangesQuery,
        ),
        Endpoint(
            "POST",
            "/admin/definitions/changes/seen",
            "change",
            "Mark changes of definitions as seen",
            SeenChanges,
            seen,
            body=Seen,
        ),
    )
