"""The agents of recent calls, and what limits leave an agent."""

from __future__ import annotations

from typing import Annotated, Protocol

from msgspec import Meta, Struct

from gateway_core.control.endpoint import AnyEndpoint, Asked, Endpoint, Problem
from gateway_core.control.shapes import AgentLimits, CatalogEntries, RecentAgents, ToolDefinition
from gateway_core.errors import UnknownAgent

NO_AGENT = {404: "No agent with this id is here, and none of its calls was recorded lately"}
AgentId = Annotated[str, Meta(description="The id of its principal")]


class Agents(Protocol):
    """The agents that are here, or were lately.

    All methods with `agent` raise `UnknownAgent`; `tools` and `tool` also raise `UnknownProfile`.
    """

    def recent(self) -> RecentAgents: ...
    def limits(self, agent: str) -> AgentLimits: ...
    async def tools(self, agent: str) -> CatalogEntries: ...
    async def tool(self, name: str, agent: str) -> ToolDefinition: ...


class Operations(Protocol):
    """What these endpoints need from the gateway."""

    @property
    def agents(self) -> Agents: ...


class OneAgent(Struct, forbid_unknown_fields=True):
    """Which agent."""

    agent: AgentId = ""


def endpoints(operations: Operations) -> tuple[AnyEndpoint, ...]:
    """The agents of recent calls, and what limits leave an agent."""

    async def recent(_: Asked[None, None]) -> RecentAgents:
        return operations.agents.recent()

    async def limits(asked: Asked[OneAgent, None]) -> AgentLimits:
        try:
            return operations.agents.limits(asked.query.agent)
        except UnknownAgent as error:
            raise Problem(404, str(error)) from None

    return (
        Endpoint("GET", "/admin/agents", "read", "The agents of recent calls and their clients", RecentAgents, recent),
        Endpoint(
            "GET",
            "/admin/limits",
            "read",
            "What the limits of plugins leave an agent",
            AgentLimits,
            limits,
            query=OneAgent,
            problems=NO_AGENT,
        ),
    )
