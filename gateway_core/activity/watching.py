"""Whether a reader watches the calls: only then is every call recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from weakref import WeakSet

from gateway_core.pipeline.pipeline import Pipeline

PATIENCE: Final = 600.0
"""Seconds after a request for recent calls in which the next one counts as expected."""


class Watching:
    """Who watches the calls, and the pipelines that record them."""

    def __init__(self) -> None:
        self._pipelines: WeakSet[Pipeline] = WeakSet()
        self._readers = 0
        self._until: asyncio.TimerHandle | None = None
        self.on = False
        """Whether calls that begin now are recorded however they end."""

    def attach(self, pipeline: Pipeline) -> None:
        """Let a pipeline record its calls while a reader watches."""
        self._pipelines.add(pipeline)
        pipeline.record_all(self.on)

    def begin(self) -> Callable[[], None]:
        """A reader watches from now on; returns the function that ends that."""
        self._readers += 1
        self._decide()
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._readers -= 1
                self._decide()

        return leave

    def look(self) -> None:
        """A reader has looked at the recent calls, and may do so again."""
        self.stop_waiting()
        self._until = asyncio.get_running_loop().call_later(PATIENCE, self._over)
        self._decide()

    def stop_waiting(self) -> None:
        """Wait for no other look."""
        if self._until is not None:
            self._until.cancel()
            self._until = None

    def _over(self) -> None:
        self._until = None
        self._decide()

    def _decide(self) -> None:
        on = self._readers > 0 or self._until is not None
        if on != self.on:
            self.on = on
            for pipeline in self._pipelines:
                pipeline.record_all(on)
