"""Child processes started while the gateway itself is still loading, to shorten the start-up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from gateway_core.config import UpstreamConfig
from gateway_core.upstream.process.child import Child

MAX_EARLY: Final = 8
"""Maximum number of early children; the other servers are started later, when they are connected to."""


class EarlyChildren:
    """The first children of stdio upstreams. One that cannot be started is dropped; its upstream starts it later."""

    def __init__(self, upstreams: Iterable[UpstreamConfig]) -> None:
        eager = [upstream for upstream in upstreams if upstream.transport == "stdio" and upstream.start == "eager"]
        stdio = [upstream for upstream in eager if not upstream.misconfigured]
        self._children = {upstream.name: Child(upstream) for upstream in stdio[:MAX_EARLY]}

    async def start(self) -> None:
        """Start all children concurrently, without waiting until they answer."""
        children = tuple(self._children.items())
        started = await asyncio.gather(*(child.start() for _, child in children), return_exceptions=True)
        for (name, _), failure in zip(children, started, strict=True):
            if failure is not None:
                del self._children[name]

    def take(self, name: str) -> Child | None:
        """The child of the named upstream, if it was started. The caller then owns it, even if it has ended."""
        return self._children.pop(name, None)

    async def stop(self) -> None:
        """End the children that were not taken."""
        await asyncio.gather(*(child.stop(politely=False) for child in self._children.values()))
