"""Coalesces background work: repeated requests for a key share one task.

Requests that arrive during a run cause one further run, so frequent requests to a slow server do not pile up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from gateway_core.background import Background

Key = TypeVar("Key")


class Coalescer(Generic[Key]):
    """Calls `update` with a key after each `ask` for it, in one task per key."""

    def __init__(self, update: Callable[[Key], Awaitable[None]], during: str) -> None:
        """`update` must read the desired state when called, and bound its time. `during`: see `Background`."""
        self._update = update
        self._background = Background(during)
        self._running: set[Key] = set()
        self._due: set[Key] = set()
        """Keys that were asked for during their run."""

    def ask(self, key: Key) -> None:
        """Request a run for `key`. If one is in progress, another follows."""
        if key in self._running:
            self._due.add(key)
        else:
            self._running.add(key)
            self._background.run(partial(self._run, key))

    def close(self) -> None:
        self._due.clear()
        self._background.cancel()

    async def _run(self, key: Key) -> None:
        try:
            await self._update(key)
        finally:
            self._running.discard(key)
            if key in self._due:
                self._due.discard(key)
                self.ask(key)
