"""Work that no caller waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway_core.supervised import cancel_all, failed


class Background:
    """Runs work in tasks that no caller waits for: keeps them, bounds them, and logs failures that are bugs."""

    def __init__(
        self,
        during: str,
        *,
        limit: int | None = None,
        at_once: int | None = None,
        timeout: float | None = None,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """`during`: what the tasks do, for their names and for the log, such as "closing upstream NAME".

        `limit`: maximum number of tasks; more work is dropped. `at_once`: how many of them run; the others wait.
        `timeout`: seconds for one, once it runs. `expected`: exceptions that end work without a line in the log.
        """
        self._during = during
        self._limit = limit
        self._turns = None if at_once is None else asyncio.Semaphore(at_once)
        self._timeout = timeout
        self._expected = expected
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Call `work` in a task, and await what it returns. Returns False if it was dropped."""
        if self._limit is not None and len(self._tasks) >= self._limit:
            return False
        task = asyncio.get_running_loop().create_task(self._run(work), name=self._during)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _run(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            if self._turns is None:
                await self._bounded(work)
            else:
                async with self._turns:
                    await self._bounded(work)
        except self._expected:
            pass
        except Exception as error:  # noqa: BLE001 - no caller would see it
            failed(self._during, error)

    async def _bounded(self, work: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(self._timeout):
            await work()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until all tasks have ended, also new ones; at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            pass

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()

    async def close(self, grace: float) -> None:
        """Wait up to `grace` seconds for the tasks, then cancel the rest and wait for their end."""
        await self.wait(grace)
        await cancel_all(self._tasks)
