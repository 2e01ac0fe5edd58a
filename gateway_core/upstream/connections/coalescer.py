"""Coalesces background work: repeated requests for a key share one task.

Requests that arrive during a run cause one further run, so frequent requests to a slow server do not pile up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Settling(Generic[Key]):
    """Coalescer: calls `update` with a key after each `ask` for it, in one task per key."""

    def __init__(self, update: Callable[[Key], Awaitable[None]], name: str) -> None:
        """`update` must read the desired state when called, and bound its time. `name` is the name of the tasks."""
        self._update = update
        self._name = name
        self._due: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}

    def ask(self, key: Key) -> None:
        """Request a run for `key`. If one is in progress, it runs again afterwards."""
        self._due.add(key)
        if key not in self._running:
            self._running[key] = asyncio.get_running_loop().create_task(self._run(key), name=self._name)

    def close(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _run(self, key: Key) -> None:
        try:
            while key in self._due:
                self._due.discard(key)
                await self._update(key)
        finally:
            del self._running[key]
