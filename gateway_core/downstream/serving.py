"""A request while it is being answered, and the way back to its agent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway_core.downstream.answer import Answer
from gateway_core.downstream.stream import QUIET, Reply
from gateway_core.driver import Running, task_of
from gateway_core.jsonrpc import Message
from gateway_core.types import CallResult


class Serving(msgspec.Struct, eq=False):
    """A request whose answer is being found, and the way back to its agent."""

    running: Running[CallResult]
    reply: Reply
    _message: Message
    _answer: Callable[[Message, Running[CallResult]], Answer]
    """Makes the answer to the message when it is there."""
    _survives: bool
    """Whether the loss of the connection leaves the request running (2025-11-25, basic/transports, Sending Messages to
    the Server)."""
    _primed: bool
    """Whether the stream begins when nothing was said for a while, so that the agent can resume it."""
    _since: float = msgspec.field(default_factory=time.monotonic)

    def answer(self) -> Answer:
        """The answer, once it is there. Raises what the search for it ended in, if that is a bug."""
        return self._answer(self._message, self.running)

    async def wait(self) -> Answer:
        """Wait for the answer. Raises as `answer` does."""
        task = task_of(self.running)
        if self._primed:
            await asyncio.wait([task], timeout=QUIET)
            self.look(time.monotonic())
        await asyncio.wait([task])
        return self.answer()

    def look(self, now: float) -> None:
        """See whether it takes long; `now` on the monotonic clock. Then it has a task, and its stream may begin."""
        if now - self._since < QUIET or self.running.done():
            return
        task_of(self.running)
        if self._primed:
            self._primed = False
            self.reply.begin()

    def lost(self) -> None:
        """The connection is gone, or nothing more can be said on it."""
        resumable = self.reply.detach()
        if not self._survives:
            self.running.cancel()
        elif not self.running.done():
            task = task_of(self.running)  # nobody looks at it any more
            if resumable:
                task.add_done_callback(lambda _: self.reply.conclude(self.answer().body))
        elif resumable:
            self.reply.conclude(self.answer().body)

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What the answer waits for."""
        writer = self.reply.writer
        return [task_of(self.running)] if writer is None else [task_of(self.running), writer]


class Streaming:
    """A request that a task answers with a stream."""

    __slots__ = ("running",)

    def __init__(self, writing: Coroutine[Any, Any, object]) -> None:
        self.running = asyncio.get_running_loop().create_task(writing)

    def look(self, now: float) -> None:
        """It takes as long as it takes."""

    def lost(self) -> None:
        """The connection is gone."""
        asyncio.get_running_loop().call_soon(self.running.cancel)  # once it has begun: it has something to tidy up

    def tasks(self) -> list[asyncio.Task[Any]]:
        """What its end waits for."""
        return [self.running]
