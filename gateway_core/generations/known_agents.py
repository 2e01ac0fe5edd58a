"""What operators ask about one agent."""

from __future__ import annotations

from collections.abc import Iterator

from gateway_core.activity.agents import SeenAgent, SeenAgents
from gateway_core.control.shapes import AgentLimits
from gateway_core.downstream.sessions.sessions import Sessions
from gateway_core.errors import UnknownAgent
from gateway_core.exchange.exchange import Agent, Exchange
from gateway_core.generations.reloads import Reloads
from gateway_core.hooks.pages import allowances_of


class KnownAgents:
    """The agents that are here, or were lately."""

    def __init__(self, sessions: Sessions, reloads: Reloads, seen: SeenAgents) -> None:
        """`seen`: those of which calls were recorded."""
        self._sessions = sessions
        self._reloads = reloads
        self._seen = seen

    def _present(self) -> Iterator[Agent]:
        """Those that have a session or a call in flight."""
        for session in self._sessions:
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
