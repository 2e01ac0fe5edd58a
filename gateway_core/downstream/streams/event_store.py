"""Legacy agents' streams that outlive their connections (2025-11-25, basic/transports, Resumability and Redelivery).

A **kept stream** is one stream of events: what waits to be written is in its mailbox, the newest of what was written is
kept for an agent whose connection broke. An **event id** is `NAME-NUMBER`: the random name of the stream and the
event's number in it, so that it is unique in the session and means nothing in another. Whoever shows the id of the
last event that it got receives what came after it and goes on live, on that stream and no other; a new connection
takes the stream from the old one. **Primed** streams begin with an event of number 0 that says nothing: an agent can
resume before the first message (SEP-1699).

Where some of what came after an event was let go, a standing stream cannot be resumed from there: its agent is to know
that it missed something. A request's stream can, with a gap: its answer is there or still to come, and worth more than
what is missing.

What is kept is bounded: events and bytes of each stream, streams and bytes of the session, seconds after the answer.
Of a stream the oldest events go, its newest message never; of the session the oldest of the streams that are worth
least, its newest stream never.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from typing import Final

from loguru import logger

from gateway_core.downstream.streams.stream import Mailbox, Writer, write_events
from gateway_core.http1.sse import event
from gateway_core.internal_errors import where

KEPT_EVENTS: Final = 256
KEPT_BYTES: Final = 1024 * 1024
"""Bounds of what is kept of one stream."""
KEPT_STREAMS: Final = 32
KEPT_SESSION_BYTES: Final = 4 * 1024 * 1024
"""Bounds of what is kept for one session; its newest stream stays, whatever its size."""
KEPT_FOR: Final = 300.0
"""Seconds after its answer in which the stream of a request can be resumed."""
RETRY_MS: Final = 1000
"""Milliseconds after which an agent is asked to come back when its connection breaks."""
_DIGITS: Final = 18


class KeptStream:
    """One stream of events. It has one connection at a time, or none."""

    def __init__(self, kept: KeptStreams, mailbox: Mailbox, *, standing: bool, primed: bool) -> None:
        """`standing`: the mailbox is the session's, not this stream's own."""
        self.name = secrets.token_hex(8)
        self.mailbox = mailbox
        self.last = 0
        """The number of the newest event that was written."""
        self._gone = 0
        """The number of the newest event that was let go."""
        self._kept = kept
        self._standing = standing
        self._primed = primed
        self._written: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        if not standing:
            mailbox.on_put = self._weigh

    @property
    def size(self) -> int:
        """Bytes that are held for it alone."""
        return self._bytes if self._standing else self._bytes + self.mailbox.size

    @property
    def worth(self) -> int:
        """How dearly it is held, by what would be lost.

        Nothing of a standing stream that nobody reads and that was told nothing; what may not have arrived of one that
        was told something, or of a stream that was written to its end; where somebody reads, what his connection may
        lose yet; of a request's stream that nobody reads the answer, for certain.
        """
        unread = self._writer is None
        if unread and self._standing:
            return 1 if self._written else 0
        if self.mailbox.closed and not self.mailbox.size:
            return 1
        return 3 if unread else 2

    def goes_on_after(self, number: int) -> bool:
        """Whether it can be resumed by an agent that has the event of that number as its last."""
        return number <= self.last and (number >= self._gone or not self._standing)

    async def serve(self, response: Writer, after: int | None = None) -> None:
        """Write to a prepared response until the stream ends, its agent is gone, or another connection takes over.

        `after`: the number of the last event that the agent has; None for the stream's first connection.
        """
        if self._writer is not None:
            self._writer.cancel()
        writer = self._writer = asyncio.get_running_loop().create_task(self._write(response, after))
        try:
            await asyncio.wait([writer])
        finally:
            writer.cancel()
            if self._writer is writer:
                self._writer = None
                self._let_go()

    async def _write(self, response: Writer, after: int | None) -> None:
        try:
            if after is not None:
                for number, message in [pair for pair in self._written if pair[0] > after]:
                    await response.write(self._event(number, message))
            elif self._primed:
                await response.write(b"id: %b\nretry: %d\ndata:\n\n" % (self._id(0), RETRY_MS))
            await write_events(response, self.mailbox, self._record)
        except ConnectionError:
            pass  # the agent has gone
        except Exception as error:  # noqa: BLE001 - nobody looks at what this task ends in
            logger.error("{} while writing a stream\n{}", type(error).__name__, where(error))

    def _record(self, message: bytes) -> bytes:
        """The next event, which is kept before it is written: a write that breaks may have been anything."""
        self.last += 1
        if self._kept.has(self):
            self._written.append((self.last, message))
            self._bytes += len(message)
            while len(self._written) > KEPT_EVENTS or (self._bytes > KEPT_BYTES and len(self._written) > 1):
                self._gone, gone = self._written.popleft()
                self._bytes -= len(gone)
            self._weigh()
        return self._event(self.last, message)

    def _event(self, number: int, message: bytes) -> bytes:
        return b"id: %b\n%b" % (self._id(number), event(message))

    def _id(self, number: int) -> bytes:
        return b"%b-%d" % (self.name.encode(), number)

    def finish(self) -> None:
        """The last message is in the mailbox: from now on the stream is kept for some time only."""
        if self._kept.has(self) and self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(KEPT_FOR, self._kept.drop, self)

    def dropped(self) -> None:
        """It can be resumed no more: without a connection nobody will ever read it."""
        self._written.clear()
        self._bytes = 0
        if self._expiry is not None:
            self._expiry.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Hold nothing when no connection has it, and none can take it any more."""
        if self._writer is None and not self._standing and not self._kept.has(self):
            self.mailbox.discard()

    def _weigh(self) -> None:
        self._kept.weigh(self)


class KeptStreams:
    """The streams of one session that can be resumed. They live in this process, as their connections do."""

    __slots__ = ("_bytes", "_sizes", "_streams")

    def __init__(self) -> None:
        self._streams: dict[str, KeptStream] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def begin(self, mailbox: Mailbox, *, standing: bool = False, primed: bool = False) -> KeptStream:
        """Keep a new stream, which is written from `mailbox`."""
        stream = KeptStream(self, mailbox, standing=standing, primed=primed)
        self._streams[stream.name] = stream
        self.weigh(stream)
        return stream

    def find(self, event_id: str) -> tuple[KeptStream, int] | None:
        """The stream of an event and the event's number in it; None where no stream goes on after that event."""
        name, _, number = event_id.partition("-")
        stream = self._streams.get(name)
        if stream is None or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            return None
        return (stream, int(number)) if stream.goes_on_after(int(number)) else None

    def has(self, stream: KeptStream) -> bool:
        return stream.name in self._streams

    def drop(self, stream: KeptStream) -> None:
        """Keep a stream no longer; who reads it now reads on."""
        if self._streams.pop(stream.name, None) is not None:
            self._bytes -= self._sizes.pop(stream.name)
            stream.dropped()

    def weigh(self, stream: KeptStream) -> None:
        """Count what a stream holds now, and let streams go where that is too much."""
        if self.has(stream):
            self._bytes += stream.size - self._sizes.get(stream.name, 0)
            self._sizes[stream.name] = stream.size
            self._trim()

    def _trim(self) -> None:
        """Let the oldest of the least worth go, until what is kept is within its bounds."""
        while len(self._streams) > KEPT_STREAMS or (len(self._streams) > 1 and self._bytes > KEPT_SESSION_BYTES):
            *older, _ = self._streams.values()
            self.drop(min(older, key=lambda stream: stream.worth))

    def close(self) -> None:
        """The session is over."""
        for stream in list(self._streams.values()):
            self.drop(stream)
