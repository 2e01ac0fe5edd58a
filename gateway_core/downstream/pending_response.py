"""Responses that are being found: to a call, and streams that a task writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from gateway_core.api import CallResult
from gateway_core.downstream.streams.stream import QUIET, Reply
from gateway_core.http1.response import Response
from gateway_core.inline.driver import Running
from gateway_core.mcp.jsonrpc import Message


class PendingCall(msgspec.Struct, eq=False):
    """The response to a call: plain, or the last message of the call's stream."""

    running: Running[CallResult]
    reply: Reply
    _message: Message
    _respond: Callable[[Message, Running[CallResult]], Response]
    """Makes the response to the message once the call is over."""
    _survives: bool
    """Whether the loss of the connection leaves the call running (2025-11-25, basic/transports, Sending Messages to
    the Server)."""
    _primed: bool
    """Whether the stream begins after a time of silence, so that the agent can resume it."""
    _since: float = msgspec.field(default_factory=time.monotonic)

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The response, or the task that still writes it. Raises what the call failed with because of a bug."""
        response = self._respond(self._message, self.running)
        if self.reply.is_plain(response):
            return response
        self.reply.conclude(response.body)
        return self.reply.writer

    def poll(self, now: float) -> None:
        """The stream of a call that takes long may begin; `now` on the monotonic clock."""
        if self._primed and now - self._since >= QUIET and not self.running.done():
            self._primed = False
            self.reply.begin()

    def lost(self) -> None:
        """The connection is lost: a call that does not survive it is cancelled, another may be resumed."""
        resumable = self.reply.detach()
        if not self._survives:
            self.running.cancel()
        elif resumable and self.running.done():
            self._conclude()
        elif resumable:
            self.running.add_done_callback(lambda _: self._conclude())

    def _conclude(self) -> None:
        self.reply.conclude(self._respond(self._message, self.running).body)


class PendingStream:
    """A stream that a task begins and writes."""

    __slots__ = ("running",)

    def __init__(self, writing: Coroutine[Any, Any, object]) -> None:
        self.running = asyncio.get_running_loop().create_task(writing)

    def response(self) -> None:
        """None once the stream is complete. Raises what the task ended with."""
        self.running.result()

    def poll(self, now: float) -> None:
        """A stream takes as long as it takes."""

    def lost(self) -> None:
        """The connection is lost."""
        # Only a task that has begun runs the code that tidies up after it.
        asyncio.get_running_loop().call_soon(self.running.cancel)
