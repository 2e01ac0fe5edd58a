"""Isolation: which agents get a connection apart from the shared one.

A modern server keeps no state between requests that agents could share by mistake (basic/index, Statelessness).
Its request state may be valid only in the process that made it, so it has one connection. A legacy server has more if
`isolation` is set, or if it opens sessions.
"""

from __future__ import annotations

from gateway_core.api import Era
from gateway_core.config import UpstreamConfig
from gateway_core.exchange.exchange import Agent
from gateway_core.upstream.base import Connection


def has_own(config: UpstreamConfig, era: Era | None, agent: Agent, main: Connection) -> bool:
    """Whether an agent's session has its own connection to a legacy server."""
    separate = config.isolation == "agent" or main.stateful
    return era == "legacy" and agent.session_id is not None and separate


def each_call(config: UpstreamConfig, era: Era | None, agent: Agent) -> bool:
    """Whether each call has its own connection to a legacy server. Also true with `isolation = "agent"` for an agent
    without a session."""
    each = config.isolation == "call" or (config.isolation == "agent" and agent.session_id is None)
    return era == "legacy" and each
