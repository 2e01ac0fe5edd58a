"""All configured upstreams, in file order."""

from __future__ import annotations

import asyncio

from gateway_core.concealing import HeldSecrets
from gateway_core.config import ProxyConfig
from gateway_core.limits.budget import MemoryBudget
from gateway_core.upstream.auth import Logins
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.status import NO_EVENTS, UpstreamEvents
from gateway_core.upstream.upstream import Upstream


class UpstreamPool:
    """Owns the upstreams and runs operations on all of them."""

    def __init__(
        self,
        config: ProxyConfig,
        early: EarlyChildren | None = None,
        events: UpstreamEvents = NO_EVENTS,
        held: HeldSecrets | None = None,
        budget: MemoryBudget | None = None,
        *,
        logins: Logins | None = None,
    ) -> None:
        """`early`: child processes that were started already. `events`: callbacks for all upstreams.

        `held`: the secrets to hide in what servers send. `budget`: the memory budget that counts for all. `logins`: the
        operator's logins at upstreams.
        """
        self.upstreams = tuple(
            Upstream(upstream, config, order, early, events=events, held=held, budget=budget, logins=logins)
            for order, upstream in enumerate(config.upstreams)
        )

    def end_session(self, session_id: str) -> None:
        """Close what the upstreams keep for an agent's session that has ended."""
        for upstream in self.upstreams:
            upstream.end_session(session_id)

    def set_log_level(self, session_id: str, level: str) -> None:
        """Set the least severe level of log messages that a legacy agent wants, on all upstreams."""
        for upstream in self.upstreams:
            upstream.set_log_level(session_id, level)

    def roots_changed(self, session_id: str) -> None:
        """Notify upstreams with a connection for this session that the legacy agent's roots changed."""
        for upstream in self.upstreams:
            upstream.roots_changed(session_id)

    async def close(self) -> None:
        """Close all upstreams concurrently. Each bounds its time, so a hanging one does not delay the others."""
        await asyncio.gather(*(upstream.close() for upstream in self.upstreams))
