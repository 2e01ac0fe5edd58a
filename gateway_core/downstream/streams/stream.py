"""What an agent is told, in order and within bounds: the mailbox, server-sent events, and the answer to one POST.

A **mailbox** is the bounded queue between those who have something to say and the one stream that writes it. When it
is full the oldest progress goes first, then log messages, then other notifications; answers and questions are never
dropped (`kept` counts them, so that whoever lets them in can stop). A **reply** answers one POST: plain JSON as long as
nothing was said before the result, a stream of events from the first thing said on, or from `begin`. Where such a
stream can be resumed, `replay.py` keeps it.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.downstream.streams.questions import Questions
from gateway_core.exchange.exchange import NO_BACK
from gateway_core.http1.response import Response
from gateway_core.http1.sse import COMMENT, SSE_HEADERS, event
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LOG_MESSAGE, PROGRESS

KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a stream carries a comment (streamable-http, Receiving Messages)."""
QUIET: Final = 1.0
"""Seconds without a word from a call after which its stream begins: then it is kept alive and can be resumed."""
MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 4 * 1024 * 1024


class Keep(enum.IntEnum):
    """How dearly a message is held when its mailbox is full."""

    PROGRESS = 0
    LOG = 1
    NOTICE = 2
    ALWAYS = 3


_KEPT: Final[Mapping[str, Keep]] = {PROGRESS: Keep.PROGRESS, LOG_MESSAGE: Keep.LOG}


class Mailbox:
    """A bounded queue of messages to one agent. Never blocks whoever puts; several streams may take from it."""

    __slots__ = ("_bytes", "_changed", "_dropped", "_items", "_taken", "closed", "kept", "on_put")

    def __init__(self) -> None:
        # Each idle session has one: a deque, and events, which have deques, would be half of what it holds.
        self._items: list[tuple[Keep, bytes]] = []
        self._bytes = 0
        self._changed: asyncio.Event | None = None
        self._taken: asyncio.Event | None = None
        """Made by whoever waits first."""
        self._dropped = 0
        self.closed = False
        self.kept = 0
        """Answers and questions that wait to be written."""
        self.on_put: Callable[[], None] | None = None
        """Told that a message has come in."""

    @property
    def size(self) -> int:
        """Bytes that wait to be written."""
        return self._bytes

    def put(self, message: bytes, keep: Keep = Keep.NOTICE, *, once: bool = False) -> None:
        """Queue a message; `once`: not if the same one waits already. Into a closed mailbox nothing goes."""
        if self.closed or (once and any(message == waiting for _, waiting in self._items)):
            return
        self._items.append((keep, message))
        self._bytes += len(message)
        self.kept += keep is Keep.ALWAYS
        while len(self._items) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            if not self._drop():
                break
        _wake(self._changed)
        if self.on_put is not None:
            self.on_put()

    def notify(self, method: str, params: bytes) -> None:
        """Queue a notification; of those, progress is the first to go, then log messages."""
        self.put(jsonrpc.notification(method, Raw(params)), _KEPT.get(method, Keep.NOTICE))

    def _drop(self) -> bool:
        """Let the least precious of the oldest go; False when there is none, or it is all there is."""
        for keep in (Keep.PROGRESS, Keep.LOG, Keep.NOTICE):
            for index, (held, message) in enumerate(self._items):
                if held is keep and len(self._items) > 1:
                    del self._items[index]
                    self._bytes -= len(message)
                    self._dropped += 1
                    return True
        return False

    async def get(self) -> bytes | None:
        """The next message; None once the mailbox is closed and empty."""
        while not self._items:
            if self.closed:
                return None
            if self._changed is None:
                self._changed = asyncio.Event()
            self._changed.clear()
            await self._changed.wait()
        keep, message = self._items.pop(0)
        self._bytes -= len(message)
        self.kept -= keep is Keep.ALWAYS
        _wake(self._taken)
        return message

    async def wait_room(self, limit: int) -> None:
        """Wait until at most `limit` answers and questions wait to be written."""
        while self.kept > limit:
            if self._taken is None:
                self._taken = asyncio.Event()
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        """Take nothing more in; what waits can still be taken out."""
        if self._dropped and not self.closed:
            logger.debug("{} notifications were dropped: their agent did not read them in time", self._dropped)
        self.closed = True
        _wake(self._changed)

    def discard(self) -> None:
        """Take nothing more in, and hold nothing: nobody will ever read it."""
        self.close()
        self._items.clear()
        self._bytes = self.kept = 0
        _wake(self._taken)


def _wake(waiting: asyncio.Event | None) -> None:
    if waiting is not None:
        waiting.set()


async def write_events(response: Writer, mailbox: Mailbox, as_event: Callable[[bytes], bytes] = event) -> None:
    """Write what comes into `mailbox` as events until it is closed and empty. Raises `ConnectionError`.

    A message never contains a line end (see `jsonrpc`).
    """
    while True:
        try:
            async with asyncio.timeout(KEEP_ALIVE):
                message = await mailbox.get()
        except TimeoutError:
            await response.write(COMMENT)
            continue
        if message is None:
            return
        await response.write(as_event(message))


@dataclass(frozen=True, slots=True)
class Accepts:
    """Which forms of answer a request's Accept header allows; without one, both."""

    json: bool = True
    stream: bool = True


class Resumable(Protocol):
    """A stream that outlives its connection."""

    async def serve(self, response: Writer) -> None:
        """Write the stream to its first connection until either ends."""

    def finish(self) -> None:
        """Called when its last message is in its mailbox."""


class Writer(Protocol):
    """A stream of an answer that has begun."""

    async def write(self, data: bytes) -> None:
        """Send this, and wait while the agent has too much to read. Raises `ConnectionError`."""


class Reply(msgspec.Struct, eq=False):
    """The answer to one POST, and the back channel of the exchange behind it."""

    _begin_stream: Callable[[Mapping[str, str]], Awaitable[Writer]]
    _accepts: Accepts
    _questions: Questions | None = None
    """The session's, where this agent can be asked; None for modern agents."""
    _keep: Callable[[Mailbox], Resumable] | None = None
    """Makes the stream, if there comes to be one, such that the agent can resume it; None for modern agents."""
    writer: asyncio.Task[None] | None = None
    """Writes the stream, once one has begun."""
    _stream: Resumable | None = None
    _mailbox: Mailbox | None = None
    _over: bool = False

    def notify(self, method: str, params: bytes) -> None:
        """Tell the agent something before the result. Dropped when it accepts no stream, or is gone."""
        mailbox = self._open()
        if mailbox is not None:
            mailbox.notify(method, params)

    async def ask(self, method: str, params: bytes) -> bytes:
        """Put a question on this stream and wait for the answer, which comes in a POST of its own.

        Raises `RpcError` when the agent refuses, cannot be asked, or is gone.
        """
        if self._questions is None or not self._accepts.stream or self._over:
            return await NO_BACK.ask(method, params)
        return await self._questions.ask(self._say, method, params)

    def _say(self, message: bytes) -> None:
        mailbox = self._open()
        if mailbox is not None:
            mailbox.put(message, Keep.ALWAYS)

    def begin(self) -> None:
        """Begin the stream before anything is said, where the agent accepts one."""
        self._open()

    def _open(self) -> Mailbox | None:
        """What the stream is written from, which begins with the first thing said; None when nobody would read it."""
        if self._over or not self._accepts.stream:
            return None
        if self._mailbox is None:
            self._mailbox = Mailbox()
            self._stream = self._keep(self._mailbox) if self._keep is not None else None
            self.writer = asyncio.get_running_loop().create_task(self._write(self._mailbox))
        return self._mailbox

    def _end(self) -> None:
        self._over = True
        if self._mailbox is not None:
            self._mailbox.close()
        if self._stream is not None:
            self._stream.finish()

    async def _write(self, mailbox: Mailbox) -> None:
        try:
            writer = await self._begin_stream(SSE_HEADERS)
            if self._stream is not None:
                await self._stream.serve(writer)
            else:
                await write_events(writer, mailbox)
        except ConnectionError:
            if self._stream is None:
                self._end()

    def is_plain(self, response: Response) -> bool:
        """Whether the response is sent as it is: no stream has begun, and the agent accepts more than streams."""
        return self.writer is None and (self._accepts.json or response.status != 200)

    def conclude(self, body: bytes) -> None:
        """Say the last thing on the stream, which begins with it if need be."""
        self._say(body)
        self._end()

    def detach(self) -> bool:
        """The agent is gone: nothing more is written.

        True when the agent can resume the stream, so that what is said from now on waits for that; then `conclude` is
        due. Otherwise it is dropped.
        """
        if self.writer is not None:
            self.writer.cancel()
        if self._stream is not None and not self._over:
            return True
        self._end()
        return False
