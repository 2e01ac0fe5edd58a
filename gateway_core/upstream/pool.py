"""All configured upstreams, in file order."""

from __future__ import annotations

import asyncio

from gateway_core.config import ProxyConfig
from gateway_core.upstream.process.early import EarlyChildren
from gateway_core.upstream.upstream import Upstream


class UpstreamPool:
    """Owns the upstreams: what concerns all of them goes through here."""

    def __init__(self, config: ProxyConfig, early: EarlyChildren | None = None) -> None:
        """`early`: children of theirs that were started already."""
        self.upstreams = tuple(
            Upstream(upstream, config, order, early) for order, upstream in enumerate(config.upstreams)
        )

    def end_session(self, session_id: str) -> None:
        """An agent's session has ended: close what the upstreams kept for it."""
        for upstream in self.upstreams:
            upstream.end_session(session_id)

    def set_log_level(self, session_id: str, level: str) -> None:
        """A legacy agent wants log messages from `level` on, whoever writes them."""
        for upstream in self.upstreams:
            upstream.set_log_level(session_id, level)

    def roots_changed(self, session_id: str) -> None:
        """A legacy agent has other roots now: whoever asked it on a connection of its own may want to ask again."""
        for upstream in self.upstreams:
            upstream.roots_changed(session_id)

    async def close(self) -> None:
        """Close all of them at once; each bounds its own closing, so one that hangs delays no other."""
        await asyncio.gather(*(upstream.close() for upstream in self.upstreams))
