"""Pending responses: the response to a call, and streams that a task writes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import msgspec
from loguru import logger

from gateway_core.api import CallResult
from gateway_core.downstream.streams.stream import PostResponse
from gateway_core.http1.head import HttpError
from gateway_core.http1.response import Response
from gateway_core.inline.driver import Running
from gateway_core.internal_errors import where
from gateway_core.mcp.jsonrpc import Message

RENEW_AGAIN: Final = 5.0
"""Seconds until a stream's credentials are looked at again, if they could not be judged."""
RENEW_FOR: Final = 60.0
"""Seconds after which a stream ends whose credentials could not be judged."""


class PendingCall(msgspec.Struct, eq=False):
    """The pending response to a call: plain, or the last message of the call's stream."""

    running: Running[CallResult]
    reply: PostResponse
    _message: Message
    _respond: Callable[[Message, Running[CallResult]], Response]
    """Makes the response to the message once the call has ended."""
    _survives: bool
    """Whether the call continues when the connection is lost (2025-11-25, basic/transports, Sending Messages to the
    Server)."""

    def response(self) -> Response | asyncio.Task[Any] | None:
        """The response, or the task that writes its stream. Raises `CancelledError` if `_respond` does."""
        response = self._respond(self._message, self.running)
        if self.reply.is_plain(response):
            return response
        self.reply.conclude(response.body)
        return self.reply.writer

    def poll(self, now: float) -> None:
        """Begin the stream of a call that is silent for long; `now` on the monotonic clock."""
        if not self.running.done():
            self.reply.poll(now)

    def lost(self) -> None:
        """Handle the loss of the connection: cancel the call, or keep its result for an agent that resumes."""
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
    """A stream that a task begins and writes. It ends when the credentials that opened it are refused."""

    __slots__ = ("_renew", "_renewing", "_unknown_since", "_until", "running")

    def __init__(self, writing: Coroutine[Any, Any, object]) -> None:
        self.running = asyncio.get_running_loop().create_task(writing)
        self._until = math.inf
        self._renew: Callable[[], Awaitable[float]] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._unknown_since: float | None = None

    def hold_until(self, until: float, renew: Callable[[], Awaitable[float]]) -> None:
        """Call `renew` at a time (monotonic). It returns the next such time; its `HttpError` 401 ends the stream."""
        self._until, self._renew = until, renew

    def doubt(self) -> None:
        """Look at the credentials again soon, because they are judged differently now.

        A stream that was opened without any ends, and its agent opens another one.
        """
        if self._renew is None:
            self.lost()
        else:
            self._until = -math.inf

    def response(self) -> None:
        """None once the stream is complete. Raises the exception of the task, if it failed."""
        self.running.result()

    def poll(self, now: float) -> None:
        """Look at the credentials again, if it is time; `now` on the monotonic clock."""
        if now >= self._until and self._renew is not None:
            self._until = math.inf
            self._renewing = asyncio.get_running_loop().create_task(self._hold_on(self._renew, now))

    async def _hold_on(self, renew: Callable[[], Awaitable[float]], now: float) -> None:
        try:
            self._until, self._unknown_since = await renew(), None
        except HttpError as error:
            self._not_renewed(now, refused=error.status == 401)
        except Exception as error:  # noqa: BLE001 - after a bug, the credentials are unknown, not good
            logger.error("{} while looking at the credentials of a stream\n{}", type(error).__name__, where(error))
            self._not_renewed(now, refused=False)

    def _not_renewed(self, now: float, *, refused: bool) -> None:
        """End the stream of refused credentials, or of those that could not be judged for too long."""
        if self._unknown_since is None:
            self._unknown_since = now
        if refused or now - self._unknown_since > RENEW_FOR:
            self.running.cancel()
        else:
            self._until = now + RENEW_AGAIN

    def lost(self) -> None:
        """Cancel the task."""
        # One turn later: a task that is cancelled before its first step does not run its cleanup code.
        asyncio.get_running_loop().call_soon(self.running.cancel)
