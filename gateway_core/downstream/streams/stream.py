"""Messages to an agent, in order and within bounds: the mailbox, server-sent events, and the answer to one POST.

A **mailbox** is the bounded queue between senders and the streams that write its messages. When it is full, it drops
the oldest progress first, then log messages, then other notifications. It never drops answers and questions; `kept`
counts them, so that callers can stop accepting requests. A **reply** answers one POST: with plain JSON, or with a
stream that begins with the first message before the result, or after `QUIET` seconds of silence. `event_store.py` keeps
resumable streams.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
from loguru import logger
from msgspec import Raw

from gateway_core.downstream.streams.questions import AgentQuestions
from gateway_core.exchange.back import NO_BACK
from gateway_core.http1.application import Client
from gateway_core.http1.head import RequestHead
from gateway_core.http1.response import Response
from gateway_core.http1.sse import COMMENT, SSE_HEADERS, event
from gateway_core.limits.accounts import COUNTED_FROM, UNCOUNTED, Account, Holding
from gateway_core.limits.budget import MemoryBudget
from gateway_core.mcp import jsonrpc
from gateway_core.mcp.names import LOG_MESSAGE, PROGRESS

KEEP_ALIVE: Final = 15.0
"""Seconds of silence after which a stream carries a comment (streamable-http, Receiving Messages)."""
QUIET: Final = 1.0
"""Seconds without a message from a call after which its stream begins, so that no proxy gives up waiting for it."""
MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 4 * 1024 * 1024


class Keep(enum.IntEnum):
    """Drop priority when the mailbox is full: the lowest is dropped first, `ALWAYS` never."""

    PROGRESS = 0
    LOG = 1
    NOTICE = 2
    ALWAYS = 3


_KEPT: Final[Mapping[str, Keep]] = {PROGRESS: Keep.PROGRESS, LOG_MESSAGE: Keep.LOG}


class Mailbox:
    """A bounded queue of messages to one agent. `put` never blocks; several streams may take from it."""

    __slots__ = (
        *("_account", "_bytes", "_dropped", "_holding", "_items", "_on_put", "_taken", "_takers"),
        *("closed", "kept"),
    )

    def __init__(self, account: Account = UNCOUNTED) -> None:
        """`account` counts many bytes. Without room for them, notifications are dropped."""
        self._account = account
        self._holding: Holding | None = None
        # Each idle session has a mailbox: lists, and an event made on demand, keep it small.
        self._items: list[tuple[Keep, bytes]] = []
        self._bytes = 0
        self._takers: list[asyncio.Future[None]] | None = None
        """The readers that wait for a message; created by the first `get` that has to wait."""
        self._taken: asyncio.Event | None = None
        """Created by the first `wait_room` that has to wait."""
        self._dropped = 0
        self.closed = False
        self.kept = 0
        """The number of queued messages that are never dropped (`Keep.ALWAYS`): answers and questions."""
        self._on_put: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """The size of the queued messages, in bytes."""
        return self._bytes

    def put(self, message: bytes, keep: Keep = Keep.NOTICE, *, once: bool = False) -> None:
        """Queue a message; with `once`, only if no equal one is queued. A closed mailbox ignores it."""
        if self.closed or (once and any(message == waiting for _, waiting in self._items)):
            return
        self._items.append((keep, message))
        self._bytes += len(message)
        self.kept += keep is Keep.ALWAYS
        while len(self._items) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            if not self._drop():
                break
        if self._bytes >= COUNTED_FROM:
            self._count()
        self._wake_takers()
        if self._on_put is not None:
            self._on_put()

    def call_on_put(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each `put` of a message."""
        self._on_put = callback

    def notify(self, method: str, params: bytes) -> None:
        """Queue a notification, with the drop priority of its method."""
        self.put(jsonrpc.notification(method, Raw(params)), _KEPT.get(method, Keep.NOTICE))

    def _count(self) -> None:
        holding = self._holding = self._holding or self._account.holding()
        while not holding.resize(self._bytes):
            if not self._drop():
                holding.resize(self._bytes, force=True)  # answers and questions stay
                return

    def _drop(self) -> bool:
        """Drop the oldest message of the lowest priority; False if none may be dropped, or only one is left."""
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
            if self._takers is None:
                self._takers = []
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(turn)
            try:
                await turn
            finally:
                self._takers.remove(turn)
        keep, message = self._items.pop(0)
        self._bytes -= len(message)
        self.kept -= keep is Keep.ALWAYS
        if self._holding is not None:
            self._count()
        _wake(self._taken)
        return message

    def _wake_takers(self) -> None:
        """Let all that wait look for a message; one finds it."""
        for turn in self._takers or ():
            if not turn.done():
                turn.set_result(None)

    async def wait_room(self, limit: int) -> None:
        """Wait until at most `limit` answers and questions are queued."""
        while self.kept > limit:
            if self._taken is None:
                self._taken = asyncio.Event()
            self._taken.clear()
            await self._taken.wait()

    def close(self) -> None:
        """Ignore new messages; queued ones can still be taken."""
        if self._dropped and not self.closed:
            logger.debug("{} notifications were dropped: their agent did not read them in time", self._dropped)
        self.closed = True
        self._wake_takers()

    def discard(self) -> None:
        """Ignore new messages, and discard the queued ones."""
        self.close()
        self._items.clear()
        self._bytes = self.kept = 0
        self._holding = None
        _wake(self._taken)


def _wake(waiting: asyncio.Event | None) -> None:
    if waiting is not None:
        waiting.set()


async def write_events(response: Writer, mailbox: Mailbox, as_event: Callable[[bytes], bytes] = event) -> None:
    """Write the messages of `mailbox` as events until it is closed and empty. Raises `ConnectionError`.

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


class Accepts(msgspec.Struct, frozen=True):
    """The forms of answer that a request's Accept header allows; both without the header."""

    json: bool = True
    stream: bool = True
    names_stream: bool = False
    """Whether it names the media type of a stream. A range such as `*/*` allows one, but scripts that send it expect
    JSON as long as nothing else has to be sent."""


class Resumable(Protocol):
    """A stream that outlives its connection."""

    primed: bool
    """Whether it begins with an event before the first message."""

    async def serve(self, response: Writer) -> None:
        """Write the stream to its first connection until the stream or the connection ends."""

    def finish(self) -> None:
        """Called once the last message of the stream is in its mailbox."""


class Writer(Protocol):
    """An answer that has begun as a stream."""

    async def write(self, data: bytes) -> None:
        """Send `data`, and wait while too much of it is unread. Raises `ConnectionError`."""


class PostResponse(msgspec.Struct, eq=False):
    """The answer to one POST, and the back channel of the exchange behind it."""

    _client: Client
    _head: RequestHead
    _accepts: Accepts
    _budget: MemoryBudget | None
    """Counts the messages that the agent does not read."""
    _questions: AgentQuestions | None = None
    """The questions of the legacy session; None for modern agents."""
    _keep: Callable[[Mailbox], Resumable] | None = None
    """Makes the stream of a mailbox resumable, once it begins; None for modern agents."""
    writer: asyncio.Task[None] | None = None
    """The task that writes the stream; None until it begins."""
    _stream: Resumable | None = None
    _mailbox: Mailbox | None = None
    _over: bool = False
    _silent: bool = False
    """Whether the stream begins because of silence, so that a comment is its first content."""
    _since: float = msgspec.field(default_factory=time.monotonic)

    @property
    def fields(self) -> Mapping[str, str]:
        """The headers of the request, by lower-case name."""
        return self._head.fields

    @property
    def has_begun(self) -> bool:
        """Whether the stream has begun."""
        return self.writer is not None

    def notify(self, method: str, params: bytes) -> None:
        """Send a notification before the result; dropped if the agent accepts no stream or the reply has ended."""
        mailbox = self._open()
        if mailbox is not None:
            mailbox.notify(method, params)

    async def ask(self, method: str, params: bytes) -> bytes:
        """Send a question on this stream and wait for the answer, which arrives in a separate POST.

        Raises `RpcError` if the agent refuses or cannot be asked, or if the reply has ended.
        """
        if self._questions is None or not self._accepts.stream or self._over:
            return await NO_BACK.ask(method, params)
        return await self._questions.ask(self.send, method, params)

    def send(self, message: bytes) -> None:
        """Write a question or a response to the stream, which begins now if it has not."""
        mailbox = self._open()
        if mailbox is not None:
            mailbox.put(message, Keep.ALWAYS)

    def poll(self, now: float) -> None:
        """Begin the stream after `QUIET` seconds, if the agent names it in Accept; `now` on the monotonic clock."""
        if self._accepts.names_stream and self.writer is None and now - self._since >= QUIET:
            self._silent = True
            self._open()

    def _open(self) -> Mailbox | None:
        """The mailbox of the stream, which begins on first use; None if the agent accepts none or the reply is over."""
        if self._over or not self._accepts.stream:
            return None
        if self._mailbox is None:
            self._mailbox = Mailbox(Account(self._budget, self._head.route.owner or self._client.network))
            self._stream = self._keep(self._mailbox) if self._keep is not None else None
            self.writer = asyncio.get_running_loop().create_task(self._write(self._mailbox))
        return self._mailbox

    def end(self) -> None:
        """End the stream after the messages that are queued."""
        self._over = True
        if self._mailbox is not None:
            self._mailbox.close()
        if self._stream is not None:
            self._stream.finish()

    async def _write(self, mailbox: Mailbox) -> None:
        try:
            writer = await self._client.begin_stream(SSE_HEADERS)
            if self._silent and not (self._stream is not None and self._stream.primed):
                await writer.write(COMMENT)
            if self._stream is not None:
                await self._stream.serve(writer)
            else:
                await write_events(writer, mailbox)
        except ConnectionError:
            if self._stream is None:
                self.end()

    def is_plain(self, response: Response) -> bool:
        """Whether to send `response` without a stream: none has begun, and the agent accepts JSON or it is an error."""
        return self.writer is None and (self._accepts.json or response.status != 200)

    def conclude(self, body: bytes) -> None:
        """Write the last message to the stream, which begins now if it has not, and end it."""
        self.send(body)
        self.end()

    def detach(self) -> bool:
        """Stop writing after the agent has disconnected.

        True if the agent can resume the stream: later messages are queued, and the caller must call `conclude`. If
        False, they are dropped.
        """
        if self.writer is not None:
            self.writer.cancel()
        if self._stream is not None and not self._over:
            return True
        self.end()
        return False
