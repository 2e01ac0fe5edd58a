"""What agents see, and where it comes from."""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta, Struct

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.endpoints.agents import Agents
from gateway_core.control.shapes import CatalogEntries, ToolDefinition
from gateway_core.errors import UnknownAgent, UnknownProfile

AgentId = Annotated[
    str, Meta(description="The id of an agent that is known: only what it sees, with its private lists, by the hooks")
]
Profile = Annotated[str, Meta(description="The profile of the agents; empty for those without one")]


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def agents(self) -> Agents: ...
    def tools(self, profile: str = "") -> CatalogEntries: ...
    def tool(self, name: str, profile: str = "") -> ToolDefinition: ...


class OfProfile(Struct):
    """Which agents."""

    profile: Profile = ""
    agent: AgentId = ""


class OneTool(Struct):
    """Which tool, for which agents."""

    name: Annotated[str, Meta(description="The name of the tool, or UPSTREAM:TOOL")] = ""
    profile: Profile = ""
    agent: AgentId = ""


def _check_one(profile: str, agent: str) -> None:
    if profile and agent:
        raise Problem(409, "an agent has its profile: give either the agent or a profile")


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The catalog."""

    async def tools(asked: Asked[OfProfile, None]) -> CatalogEntries:
        profile, agent = asked.query.profile, asked.query.agent
        _check_one(profile, agent)
        try:
            return await operations.agents.tools(agent) if agent else operations.tools(profile)
        except (UnknownProfile, UnknownAgent) as error:
            raise Problem(404, str(error)) from None

    async def tool(asked: Asked[OneTool, None]) -> ToolDefinition:
        name, profile, agent = asked.query.name, asked.query.profile, asked.query.agent
        _check_one(profile, agent)
        try:
            return await operations.agents.tool(name, agent) if agent else operations.tool(name, profile)
        except (UnknownProfile, UnknownAgent) as error:
            raise Problem(404, str(error)) from None

    problems = {
        404: "The configuration has no such profile, or the agent is not known",
        409: "Both an agent and a profile are given",
    }
    return (
        Endpoint(
            "GET",
            "/admin/tools",
            "read",
            "What agents see, and how conflicts of names were resolved",
            CatalogEntries,
            tools,
            query=OfProfile,
            problems=problems,
        ),
        Endpoint(
            "GET",
            "/admin/tool",
            "read",
            "One tool and its definition",
            ToolDefinition,
            tool,
            query=OneTool,
            problems=problems,
        ),
    )
