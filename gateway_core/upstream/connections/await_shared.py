"""Waiting for work that several requests share."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from gateway_core.errors import NotSent

Result = TypeVar("Result")


async def joined(task: asyncio.Task[Result], ended: str) -> Result:
    """What `task` comes to. One request that is cancelled does not end it for the others.

    Raises what it raises, and `NotSent(ended)` when it was cancelled itself: whoever waits was not.
    """
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if task.cancelled() and current is not None and not current.cancelling():
            raise NotSent(ended) from None
        raise
