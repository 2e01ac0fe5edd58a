"""Searches in a thread, so that other calls go on meanwhile.

One thread serves all: more would only compete for the interpreter. The searches for one address wait for each other, so
that a source of many large results delays only its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 4.0
"""Seconds that a search may take, with the wait for its turn. The gateway gives up an `after_call` after 5 s."""


class SearchThread:
    """The thread, started by the first search."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._latest: dict[str, asyncio.Future[None]] = {}
        """Address -> done when its latest search has ended."""

    async def run(self, address: str, search: Callable[[], T]) -> T:
        """`search()`, after the earlier searches for `address`. Raises `TimeoutError` after `PATIENCE` seconds."""
        loop = asyncio.get_running_loop()
        before, ended = self._latest.get(address), loop.create_future()
        self._latest[address] = ended
        try:
            async with asyncio.timeout(PATIENCE):
                if before is not None:
                    await asyncio.wait([before])
                if self._executor is None:
                    self._executor = ThreadPoolExecutor(1, thread_name_prefix="redact")
                return await loop.run_in_executor(self._executor, search)
        finally:
            if before is None or before.done():
                ended.set_result(None)
            else:
                before.add_done_callback(lambda _: ended.set_result(None))
            if self._latest[address] is ended:
                del self._latest[address]

    def close(self) -> None:
        """End the thread. Searches that have not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
