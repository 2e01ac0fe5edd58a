"""Who gets a connection apart from the one that an upstream's agents share.

A modern server keeps nothing between requests that agents could share by mistake (basic/index, Statelessness); but what
it hands out to be brought back may be good at the very same process only. So it has one connection. A legacy one has
more where `isolation` says so, and where it hands out sessions.
"""

from __future__ import annotations

from gateway_core.api import Era
from gateway_core.config import UpstreamConfig
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.base import Connection


def has_own(config: UpstreamConfig, era: Era | None, agent: Agent, main: Connection | None) -> bool:
    """Whether a legacy agent's session has a connection of its own."""
    separate = config.isolation == "agent" or (main is not None and main.stateful)
    return era == "legacy" and agent.session_id is not None and separate


def each_call(config: UpstreamConfig, era: Era | None, agent: Agent) -> bool:
    """Whether each of an agent's calls has a connection to itself: also where each agent should, and this one has no
    session."""
    each = config.isolation == "call" or (config.isolation == "agent" and agent.session_id is None)
    return era == "legacy" and each
