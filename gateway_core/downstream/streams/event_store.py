"""Event store: legacy agents' streams that outlive their connections.

Source: 2025-11-25, basic/transports, Resumability and Redelivery.

A `StoredStream` is one stream of events. Its mailbox holds unwritten messages; the newest written events are kept for
an agent whose connection broke. An **event id** is `NAME-NUMBER`: the random name of the stream and the event's number
in it, so it is unique in the session and invalid in another. An agent that sends the id of its last event gets the
later events of that stream, then live ones; its new connection replaces the old one. **Primed** streams begin with
event 0, which has no data, so that an agent can resume before the first message (SEP-1699).

A standalone GET stream cannot be resumed across dropped events, so that its agent knows that it missed some. The stream
of a request can be resumed with a gap, because its result matters more than the missing events.

The store is bounded: events and bytes of each stream, streams and bytes of the session, seconds after the result, and
the share of the memory budget that the agent's network has. A stream drops its oldest events, but never its newest. A
session drops the oldest stream of the lowest worth, but never its newest. Without room in the memory, streams forget
their written events, those of the lowest worth first.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any, Final

from loguru import logger

from gateway_core.downstream.streams.stream import Mailbox, Writer, write_events
from gateway_core.http1.sse import event
from gateway_core.internal_errors import where
from gateway_core.limits.accounts import COUNTED_FROM, UNCOUNTED, Account, Holding

KEPT_EVENTS: Final = 256
KEPT_BYTES: Final = 1024 * 1024
"""Bounds of the written events of one stream."""
KEPT_STREAMS: Final = 32
KEPT_SESSION_BYTES: Final = 4 * 1024 * 1024
"""Bounds of the event store of one session; its newest stream stays, even above them."""
_STANDALONE: Final = "s"
_OF_REQUEST: Final = "r"
"""How the names of streams begin, so that a later process knows what a stream was."""
KEPT_FOR: Final = 300.0
"""Seconds after its result for which the stream of a request can be resumed."""
RETRY_MS: Final = 1000
"""Milliseconds that an agent is asked to wait before it reconnects (`retry`)."""
_DIGITS: Final = 18


class StoredStream:
    """One resumable stream of events, with at most one connection at a time."""

    __slots__ = (
        *("_bytes", "_expiry", "_gone", "_kept", "_standalone", "_writer", "_written"),
        *("last", "mailbox", "name", "primed"),
    )

    def __init__(self, kept: EventStore, mailbox: Mailbox, *, standalone: bool, primed: bool) -> None:
        """`standalone`: whether this is a standalone GET stream, which has the session's mailbox."""
        self.name = (_STANDALONE if standalone else _OF_REQUEST) + secrets.token_hex(8)
        self.mailbox = mailbox
        self.last = 0
        """The number of the newest event that was written."""
        self._gone = 0
        """The number of the newest event that was dropped."""
        self._kept = kept
        self._standalone = standalone
        self.primed = primed
        self._written: list[tuple[int, bytes]] = []  # not a deque, which is large even if it is empty
        self._bytes = 0
        self._writer: asyncio.Task[Any] | None = None
        """The task that serves the connection of the stream."""
        self._expiry: asyncio.TimerHandle | None = None
        if not standalone:
            mailbox.call_on_put(self._weigh)

    @property
    def size(self) -> int:
        """Bytes that this stream holds; the mailbox of the session is not counted."""
        return self._bytes if self._standalone else self._bytes + self.mailbox.size

    @property
    def worth(self) -> int:
        """Drop priority, by what the agent would lose; streams of the lowest worth are dropped first.

        0: a standalone stream without a connection and without written events, where nothing is lost. 1: a standalone
        stream without a connection, or a stream that is written to its end; some events may not have arrived. 2: a
        stream with a connection, which may still break. 3: a request's stream without a connection; its result would
        be lost.
        """
        unread = self._writer is None
        if unread and self._standalone:
            return 1 if self._written else 0
        if self.mailbox.closed and not self.mailbox.size:
            return 1
        return 3 if unread else 2

    def goes_on_after(self, number: int) -> bool:
        """Whether an agent whose last event has that number can resume this stream."""
        return number <= self.last and (number >= self._gone or not self._standalone)

    async def serve(self, response: Writer, after: int | None = None) -> None:
        """Write to a prepared response until the stream ends, the agent disconnects, or a new connection replaces it.

        `after`: the number of the last event that the agent has; None for the first connection of the stream.
        """
        if self._writer is not None:
            self._writer.cancel()
        task = self._writer = asyncio.current_task()
        assert task is not None, "streams are served by tasks"
        try:
            if after is not None:
                for number, message in [pair for pair in self._written if pair[0] > after]:
                    await response.write(self._event(number, message))
            elif self.primed:
                await response.write(b"id: %b\nretry: %d\ndata:\n\n" % (self._id(0), RETRY_MS))
            await write_events(response, self.mailbox, self._record)
        except ConnectionError:
            pass  # the agent has disconnected
        except asyncio.CancelledError:
            if self._writer is task or task.uncancel():  # cancelled for another reason than a new connection
                raise
        except Exception as error:  # noqa: BLE001 - a bug ends the stream as an agent that disconnects does
            logger.error("{} while writing a stream\n{}", type(error).__name__, where(error))
        finally:
            if self._writer is task:
                self._writer = None
                self._let_go()

    def _record(self, message: bytes) -> bytes:
        """Encode the next event. It is stored before the write, because a failed write may have sent any part of it."""
        self.last += 1
        if self._kept.has(self):
            self._written.append((self.last, message))
            self._bytes += len(message)
            while len(self._written) > KEPT_EVENTS or (self._bytes > KEPT_BYTES and len(self._written) > 1):
                self._gone, gone = self._written.pop(0)
                self._bytes -= len(gone)
            self._weigh()
        return self._event(self.last, message)

    def _event(self, number: int, message: bytes) -> bytes:
        return b"id: %b\n%b" % (self._id(number), event(message))

    def _id(self, number: int) -> bytes:
        return b"%b-%d" % (self.name.encode(), number)

    @property
    def stored(self) -> int:
        """Bytes of the written events."""
        return self._bytes

    def forget(self) -> None:
        """Discard the written events. The stream can be resumed with a gap, unless it is a standalone one."""
        self._written.clear()
        self._bytes, self._gone = 0, self.last

    def finish(self) -> None:
        """Start the expiry of the stream (`KEPT_FOR`), once its last message is in the mailbox."""
        if self._kept.has(self) and self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(KEPT_FOR, self._kept.drop, self)

    def dropped(self) -> None:
        """Discard the written events after removal from the store; without a connection, the mailbox too."""
        self._written.clear()
        self._bytes = 0
        if self._expiry is not None:
            self._expiry.cancel()
        self._let_go()

    def _let_go(self) -> None:
        """Discard a request's mailbox if the stream has no connection and can no longer be resumed."""
        if self._writer is None and not self._standalone and not self._kept.has(self):
            self.mailbox.discard()

    def _weigh(self) -> None:
        self._kept.weigh(self)


def is_of_standalone(event_id: str) -> bool:
    """Whether an event was on a standalone stream, which need not exist any more."""
    return event_id.startswith(_STANDALONE)


class EventStore:
    """The event store of one session: its resumable streams, in the memory of this process."""

    __slots__ = ("_account", "_bytes", "_holding", "_sizes", "_streams")

    def __init__(self, account: Account = UNCOUNTED) -> None:
        """`account` counts the written events. Without room for them, events are discarded, but never an answer that
        was not written."""
        self._account = account
        self._holding: Holding | None = None
        self._streams: dict[str, StoredStream] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0

    def begin(self, mailbox: Mailbox, *, standalone: bool = False, primed: bool = False) -> StoredStream:
        """Add a new stream that is written from `mailbox`."""
        stream = StoredStream(self, mailbox, standalone=standalone, primed=primed)
        self._streams[stream.name] = stream
        self.weigh(stream)
        return stream

    def find(self, event_id: str) -> tuple[StoredStream, int] | None:
        """The stream of an event and the event's number; None if no stream can be resumed after that event."""
        name, _, number = event_id.partition("-")
        stream = self._streams.get(name)
        if stream is None or not (number.isascii() and number.isdigit() and len(number) <= _DIGITS):
            return None
        return (stream, int(number)) if stream.goes_on_after(int(number)) else None

    def has(self, stream: StoredStream) -> bool:
        return stream.name in self._streams

    def drop(self, stream: StoredStream) -> None:
        """Remove a stream from the store; its current connection continues."""
        if self._streams.pop(stream.name, None) is not None:
            self._bytes -= self._sizes.pop(stream.name)
            stream.dropped()
            if self._holding is not None:
                self._count()

    def weigh(self, stream: StoredStream) -> None:
        """Update the size of a stream, and drop streams above the bounds of the session."""
        if self.has(stream):
            self._bytes += stream.size - self._sizes.get(stream.name, 0)
            self._sizes[stream.name] = stream.size
            self._trim()
            if self._holding is not None or self._bytes >= COUNTED_FROM:
                self._count()

    def _count(self) -> None:
        """Count the written events; discard those of the streams of the lowest worth until there is room."""
        holding = self._holding = self._holding or self._account.holding()
        streams = self._streams.values()
        while not holding.resize(sum(stream.stored for stream in streams)):
            least = min((stream for stream in streams if stream.stored), key=lambda stream: stream.worth)
            least.forget()
            self._bytes += least.size - self._sizes[least.name]
            self._sizes[least.name] = least.size

    def _trim(self) -> None:
        """Drop the oldest stream of the lowest worth until the store is within its bounds."""
        while len(self._streams) > KEPT_STREAMS or (len(self._streams) > 1 and self._bytes > KEPT_SESSION_BYTES):
            *older, _ = self._streams.values()
            self.drop(min(older, key=lambda stream: stream.worth))

    def close(self) -> None:
        """Drop all streams at the end of the session."""
        for stream in list(self._streams.values()):
            self.drop(stream)
        self._holding = None
