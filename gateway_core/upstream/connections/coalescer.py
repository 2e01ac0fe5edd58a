"""Work that nobody waits for, the same however often it is asked for: one task a key, and once more after it.

So an agent that asks again and again, of a server that takes its time, makes no more of it than two rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")


class Settling(Generic[Key]):
    """Has `settle` called with a key soon after each `ask` for it, by one task a key."""

    def __init__(self, settle: Callable[[Key], Awaitable[None]], name: str) -> None:
        """`settle` looks at what is wanted when it is called, and bounds its own time. `name` is that of the tasks."""
        self._settle = settle
        self._name = name
        self._due: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}

    def ask(self, key: Key) -> None:
        """Something may have to be done; what is done already may have come too early for it."""
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
                await self._settle(key)
        finally:
            del self._running[key]
