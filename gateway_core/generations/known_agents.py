"""What operators ask about one agent: what it sees, and what limits leave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gateway_core.activity.agents import SeenAgent, SeenAgents
from gateway_core.control import report
from gateway_core.errors import UnknownAgent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.generations.parts import Parts
from gateway_core.generations.reloads import Reloads
from gateway_core.hooks.pages import allowances_of
from gateway_core.pipeline.seen_lists import seen_lists

if TYPE_CHECKING:
    from gateway_core.control.shapes import AgentLimits, CatalogEntries, RecentAgents, ToolDefinition


class KnownAgents:
    """The agents that are here, or were lately."""

    def __init__(self, parts: Parts, reloads: Reloads, seen: SeenAgents) -> None:
        """`seen`: those of which calls were recorded."""
        self._parts = parts
        self._reloads = reloads
        self._seen = seen

    def _present(self) -> Iterator[Agent]:
        """Those that have a session or a call in flight."""
        for session in self._parts.downstream.sessions:
            if session.agent is not None:
                yield session.agent
        for generation in self._reloads.live:
            for call in generation.pipeline.deadlines.running:
                exchange: Exchange = call.about
                yield exchange.agent

    def find(self, principal: str) -> SeenAgent:
        """An agent, by the id of its principal. Raises `UnknownAgent`."""
        for agent in self._present():
            if agent.principal.id == principal:
                return SeenAgent.of(agent)
        found = self._seen.find(principal)
        if found is None:
            raise UnknownAgent(principal)
        return found

    def recent(self) -> RecentAgents:
        """The agents of which calls were recorded lately."""
        return {
            "agents": [
                {
                    "agent": one.principal.id,
                    "verified": one.principal.verified,
                    "era": one.era,
                    "clients": list(one.clients),
                }
                for one in self._seen
            ]
        }

    def limits(self, agent: str) -> AgentLimits:
        """What the limits of the enabled plugins leave an agent. Raises `UnknownAgent`."""
        known = self.find(agent)
        found, problems = allowances_of(self._reloads.current.chain.plugins, known.principal)
        return {
            "agent": known.principal.id,
            "verified": known.principal.verified,
            "limits": [
                {
                    "plugin": one.plugin,
                    "what": one.allowance.what,
                    "limit": one.allowance.limit,
                    "per": one.allowance.per,
                    "of": one.allowance.of,
                    "remaining": one.allowance.remaining,
                    "wait": round(one.allowance.wait, 3),
                }
                for one in found
            ],
            "problems": problems,
        }

    async def tools(self, agent: str) -> CatalogEntries:
        """What an agent sees of the catalog: in its profile, with its private lists, and as plugins filter lists.

        Raises `UnknownAgent` and `UnknownProfile`.
        """
        known, current = self.find(agent), self._reloads.current
        profile = known.principal.profile
        entries = report.tools(current.catalog, self._parts.pool.upstreams, profile, known.viewer)
        seen, remarks = await seen_lists(current.chain, current.catalog, known)
        tools, prompts = seen["tools/list"], seen["prompts/list"]
        resources, templates = seen["resources/list"], seen["resources/templates/list"]
        return {
            **entries,
            "tools": [
                {**it, "description": _text(tools[it["name"]]), "annotations": _hints(tools[it["name"]])}
                for it in entries["tools"]
                if it["name"] in tools
            ],
            "prompts": [
                {**it, "description": _text(prompts[it["name"]])} for it in entries["prompts"] if it["name"] in prompts
            ],
            "resources": [
                {**it, "description": _text(resources[it["uri"]])}
                for it in entries["resources"]
                if it["uri"] in resources
            ],
            "templates": [
                {**it, "description": _text(templates[it["uri_template"]])}
                for it in entries["templates"]
                if it["uri_template"] in templates
            ],
            "notes": [*entries["notes"], *remarks],
        }

    async def tool(self, name: str, agent: str) -> ToolDefinition:
        """One tool as an agent sees it; without a definition if it does not see the tool. Raises as `tools`."""
        known, current = self.find(agent), self._reloads.current
        found = report.tool(current.catalog, name, known.principal.profile, known.viewer)
        seen, notes = await seen_lists(current.chain, current.catalog, known, ["tools/list"])
        found["notes"] = notes
        definition = seen["tools/list"].get(name)
        if definition is None:
            return {**found, "published_name": None, "original_name": None, "upstreams": [], "definition": None}
        return {**found, "definition": definition}


def _text(definition: Mapping[str, Any]) -> str:
    found = definition.get("description")
    return found if isinstance(found, str) else ""


def _hints(definition: Mapping[str, Any]) -> dict[str, Any]:
    found = definition.get("annotations")
    return found if isinstance(found, dict) else {}
