"""What agents see, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta, Struct

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.shapes import CatalogEntries, ToolDefinition
from gateway_core.errors import UnknownProfile

Profile = Annotated[str, Meta(description="The profile of the agents; empty for those without one")]


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    def tools(self, profile: str = "") -> CatalogEntries: ...
    def tool(self, name: str, profile: str = "") -> ToolDefinition: ...


class OfProfile(Struct):
    """Which agents."""

    profile: Profile = ""


class OneTool(Struct):
    """Which tool, for which agents."""

    name: Annotated[str, Meta(description="The name of the tool, or UPSTREAM:TOOL")] = ""
    profile: Profile = ""


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The catalog."""

    async def tools(asked: Asked[OfProfile, None]) -> CatalogEntries:
        try:
            return operations.tools(asked.query.profile)
        except UnknownProfile as error:
            raise Problem(404, str(error)) from None

    async def tool(asked: Asked[OneTool, None]) -> ToolDefinition:
        try:
            return operations.tool(asked.query.name, asked.query.profile)
        except UnknownProfile as error:
            raise Problem(404, str(error)) from None

    missing = {404: "The configuration has no such profile"}
    return (
        Endpoint(
            "GET",
            "/admin/tools",
            "read",
            "What agents see, and how conflicts of names were resolved",
            CatalogEntries,
            tools,
            query=OfProfile,
            problems=missing,
        ),
        Endpoint(
            "GET",
            "/admin/tool",
            "read",
            "One tool and its definition",
            ToolDefinition,
            tool,
            query=OneTool,
            problems=missing,
        ),
    )
