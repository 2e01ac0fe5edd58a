"""Awaits a task that several requests share."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from gateway_core.errors import NotSent

Result = TypeVar("Result")


async def await_shared(task: asyncio.Task[Result], ended: str) -> Result:
    """Await a shared task. Cancelling one waiter does not cancel the task.

    Raises the task's exception, or `NotSent(ended)` if the task was cancelled but this waiter was not.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if task.cancelled() and current is not None and not current.cancelling():
            raise NotSent(ended) from None
        raise
