"""Legacy agents' streams that outlive their connections (2025-11-25, basic/transports, Resumability and Redelivery).

A **kept stream** is one stream of events: what waits to be written is in its mailbox, the newest of what was written is
kept for an agent whose connection broke. An **event id** is `NAME-NUMBER`: the random name of the stream and the
event's number in it, so that it is unique in the session and means nothing in another. Whoever shows the id of the
last event that it got receives what came after it and goes on live, on that stream and no other; a new connection
takes the stream from the old one. **Primed** streams begin with an event of number 0 that says nothing: an agent can
resume before the first message (SEP-1699).

What is kept is bounded: events and bytes of each stream, streams and bytes of the session, seconds after the answer.
What goes is the oldest, the newest message of a stream never.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from typing import Final

from aiohttp import web

from gateway_core.downstream.stream import Mailbox, event, write_events

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
        self._kept = kept
        self._standing = standing
        self._primed = primed
        self._written: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        if not standing:
            mailbox.on_growth = kept.trim

    @property
    def size(self) -> int:
        """Bytes that are held for it alone."""
        return self._bytes if self._standing else self._bytes + self.mailbox.size

    @property
    def worth(self) -> int:
        """How dearly it is held: least when it was written to its end, most while somebody reads it."""
        if self.mailbox.closed and not self.mailbox.size:
            return 0
        return 1 if self._writer is None else 2

    async def serve(self, response: web.StreamResponse, after: int | None = None) -> None:
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

    async def _write(self, response: web.StreamResponse, after: int | None) -> None:
        with contextlib.suppress(ConnectionError):
            if after is not None:
                for number, message in [pair for pair in self._written if pair[0] > after]:
                    await response.write(self._event(number, message))
            elif self._primed:
                await response.write(b"id: %b\nretry: %d\ndata:\n\n" % (self._id(0), RETRY_MS))
            await write_events(response, self.mailbox, self._record)

    def _record(self, message: bytes) -> bytes:
        """The next event, which is kept before it is written: a write that breaks may have been anything."""
        self.last += 1
        if self._kept.has(self):
            self._written.append((self.last, message))
            self._bytes += len(message)
            while len(self._written) > KEPT_EVENTS or (self._bytes > KEPT_BYTES and len(self._written) > 1):
                self._bytes -= len(self._written.popleft()[1])
        return self._event(self.last, message)

    def _event(self, number: int, message: bytes) -> bytes:
        return b"id: %b\n%b" % (self._id(number), event(message))

    def _id(self, number: int) -> bytes:
        return b"%b-%d" % (self.name.encode(), number)

    def finish(self) -> None:
        """The last message is in the mailbox: from now on the stream is kept for some time only."""
        if self._kept.has(self) and self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(KEPT_FOR, self._kept.drop, self)
            self._kept.trim()

    def dropped(self) -> None:
        """It can be resumed no more: without a connection nobody will ever read it."""
        self._written.clear()
        self._bytes = 0
        if self._expiry is not None:
            self._expiry.cancel()
        if not self._standing:
            self.mailbox.on_growth = lambda: None
            if self._writer is None:
                self.mailbox.close()


class KeptStreams:
    """The streams of one session that can be resumed. They live in this process, as their connections do."""

    def __init__(self) -> None:
        self._streams: dict[str, KeptStream] = {}

    def begin(self, mailbox: Mailbox, *, standing: bool = False, primed: bool = False) -> KeptStream:
        """Keep a new stream, which is written from `mailbox`."""
        stream = KeptStream(self, mailbox, standing=standing, primed=primed)
        self._streams[stream.name] = stream
        self.trim()
        return stream

    def find(self, event_id: str) -> tuple[KeptStream, int] | None:
        """The stream of an event and the event's number in it; None for an event that none of these streams had."""
        name, _, number = event_id.partition("-")
        stream = self._streams.get(name)
        if stream is None or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            return None
        return (stream, int(number)) if int(number) <= stream.last else None

    def has(self, stream: KeptStream) -> bool:
        return stream.name in self._streams

    def drop(self, stream: KeptStream) -> None:
        """Keep a stream no longer; who reads it now reads on."""
        if self._streams.pop(stream.name, None) is not None:
            stream.dropped()

    def trim(self) -> None:
        """Let the oldest of the least worth go, until what is kept is within its bounds."""
        while len(self._streams) > KEPT_STREAMS or (
            len(self._streams) > 1 and sum(stream.size for stream in self._streams.values()) > KEPT_SESSION_BYTES
        ):
            *older, _ = self._streams.values()
            self.drop(min(older, key=lambda stream: stream.worth))

    def close(self) -> None:
        """The session is over."""
        for stream in list(self._streams.values()):
            self.drop(stream)
