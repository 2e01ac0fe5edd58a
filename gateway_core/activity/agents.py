"""The agents of which calls were recorded lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway_core.api import Era, Principal
from gateway_core.exchange.exchange import Agent

MAX_AGENTS: Final = 1000
"""Agents that are remembered."""
MAX_CLIENTS: Final = 5
"""Clients that are remembered of one agent."""


class SeenAgent(msgspec.Struct, frozen=True, eq=False):
    """What operators need to know of an agent. None of it is a secret."""

    principal: Principal
    era: Era
    viewer: str
    """See `Agent.viewer`."""
    session: str = ""
    """See `Agent.session_key`."""
    clients: tuple[str, ...] = ()
    """The last clients that sent its requests: name and version, as they say."""

    def still(self, agent: Agent) -> bool:
        """Whether it is as in this request."""
        same = self.principal is agent.principal and self.era == agent.era
        return same and self.viewer == agent.viewer and self.session == agent.session_key

    @classmethod
    def of(cls, agent: Agent, before: SeenAgent | None = None) -> SeenAgent:
        """As it was in its last request. `before`: as it was in an earlier one."""
        principal, clients = agent.principal, () if before is None else before.clients
        client = f"{principal.client_name} {principal.client_version}".strip()
        if client and client not in clients:
            clients = (*clients, client)[-MAX_CLIENTS:]
        return cls(principal, agent.era, agent.viewer, agent.session_key, clients)


class SeenAgents:
    """The last agents, by the ids of their principals; bounded."""

    def __init__(self) -> None:
        self._agents: OrderedDict[str, SeenAgent] = OrderedDict()
        self._latest: Agent | None = None

    def note(self, agent: Agent) -> None:
        """Remember an agent whose call is recorded."""
        if agent is self._latest:
            return
        self._latest = agent
        agents, key = self._agents, agent.principal.id
        known = agents.get(key)
        if known is None or not known.still(agent):
            agents[key] = SeenAgent.of(agent, known)
        agents.move_to_end(key)
        if len(agents) > MAX_AGENTS:
            agents.popitem(last=False)

    def __iter__(self) -> Iterator[SeenAgent]:
        """Those seen last come last."""
        return iter(tuple(self._agents.values()))

    def find(self, principal: str) -> SeenAgent | None:
        """The agent with this id."""
        return self._agents.get(principal)
