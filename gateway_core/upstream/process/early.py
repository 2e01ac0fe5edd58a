"""Children that are started while the gateway is still being loaded, which takes as long as many of them take."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from gateway_core.config import UpstreamConfig
from gateway_core.upstream.process.child import Child

MAX_EARLY: Final = 8
"""So many; the others are started like all that are started later."""


class EarlyChildren:
    """The first children of the upstreams over stdio. One that cannot be started is left to whoever tries again."""

    def __init__(self, upstreams: Iterable[UpstreamConfig]) -> None:
        stdio = [upstream for upstream in upstreams if upstream.transport == "stdio"]
        self._children = {upstream.name: Child(upstream) for upstream in stdio[:MAX_EARLY]}

    async def start(self) -> None:
        """Start them, all at once, and do not wait until they can be spoken to."""
        children = tuple(self._children.items())
        started = await asyncio.gather(*(child.start() for _, child in children), return_exceptions=True)
        for (name, _), failure in zip(children, started, strict=True):
            if failure is not None:
                del self._children[name]

    def take(self, name: str) -> Child | None:
        """The child of the upstream of that name, if it was started; from now on it is the caller's, ended or not."""
        return self._children.pop(name, None)

    async def stop(self) -> None:
        """End those that nobody took."""
        await asyncio.gather(*(child.stop(politely=False) for child in self._children.values()))
