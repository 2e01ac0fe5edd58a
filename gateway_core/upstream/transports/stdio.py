"""The stdio transport: a child process, one JSON-RPC message per line (transports/stdio).

`Lines` splits the child's stdout into lines of bounded size; `StdioConnection` sends and receives messages through a
`Child`.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from gateway_core.api import Era
from gateway_core.config import LimitsConfig, UpstreamConfig
from gateway_core.errors import DeliveryError, NotSent, UnusableAnswer
from gateway_core.limits.accounts import COUNTED_FROM, NO_ROOM, UNCOUNTED, Account
from gateway_core.upstream.base import ClientContext, ServerInfo
from gateway_core.upstream.liveness import busy_until
from gateway_core.upstream.messages.malformed import EDGE, id_at_the_edges
from gateway_core.upstream.messages.noise import SLICE, Noisy
from gateway_core.upstream.pending import Pending
from gateway_core.upstream.process.child import Child
from gateway_core.upstream.transports.duplex import DuplexConnection

MAX_QUEUED: Final = 256
"""Maximum number of messages that wait for a full pipe; more fail with `NotSent`."""

_ENVELOPE: Final = re.compile(rb'\{\s*"(?:jsonrpc|id|result|error)"\s*:')
"""How a response begins."""


class TooLong:
    """The first and last bytes of a line that is longer than the limit, or does not fit into the memory."""

    __slots__ = ("fits", "head", "tail")
    KEPT: Final = EDGE

    def __init__(self, head: bytes, *, fits: bool) -> None:
        """`fits`: whether there was room in the memory."""
        self.fits = fits
        self.head = head[: self.KEPT]
        self.tail = b""

    def more(self, data: bytes) -> None:
        self.tail = (self.tail + data[-self.KEPT :])[-self.KEPT :]

    @property
    def request_id(self) -> int | None:
        """The id of the request that the line answers, if it follows `jsonrpc` at the beginning or end."""
        return id_at_the_edges(self.head, self.tail) or None


class Lines:
    """Splits bytes into lines, without line ends, in a single pass."""

    def __init__(self, limit: int, account: Account = UNCOUNTED) -> None:
        """`limit`: bytes of one line. `account` counts a large unfinished line until `release`."""
        self._limit = limit
        self._plain = min(limit, COUNTED_FROM)
        """Bytes up to which a line that arrives at once is taken as it is."""
        self._claim = account.claim()
        self._part = bytearray()
        self._too_long: TooLong | None = None
        self.dropped = 0
        """Bytes of lines that are too long, among what was fed last."""

    def feed(self, data: bytes) -> list[bytes | TooLong]:
        """The lines that `data` completes, without empty ones."""
        lines: list[bytes | TooLong] = []
        self.dropped = 0
        *ends, rest = data.split(b"\n")
        for end in ends:
            if not self._part and self._too_long is None and len(end) <= self._plain:
                if end.strip():
                    lines.append(end)
                continue
            self._take(end)
            if self._too_long is not None:
                lines.append(self._too_long)
                self._too_long = None
            elif self._part.strip():
                lines.append(bytes(self._part))
            self._part.clear()
            self.release()
        if rest:
            self._take(rest)
        return lines

    def _take(self, data: bytes) -> None:
        size = len(self._part) + len(data)
        if self._too_long is not None:
            self._too_long.more(data)
            self.dropped += len(data)
        elif size > self._limit or (size > COUNTED_FROM and not self._claim.grow(size)):
            head = bytes(self._part[: TooLong.KEPT]) + data[: TooLong.KEPT]
            self._too_long = TooLong(head, fits=size > self._limit)
            self._too_long.more(data)
            self.dropped += size
            self._part = bytearray()
            self.release()
        else:
            self._part += data

    def release(self) -> None:
        """Give back what was counted of an unfinished line: it has ended, or will not be read."""
        if self._claim.size:
            self._claim.release()


def without_banner(line: bytes) -> bytes:
    """The response at the end of a first line that begins with a byte order mark, colour codes or a banner.

    Does not extract requests, because some servers print the messages that they receive.
    """
    line = line.removeprefix(codecs.BOM_UTF8)
    if line.startswith(b"{"):
        return line
    found = _ENVELOPE.search(line)
    message = b"" if found is None else line[found.start() :]
    return message if b'"result"' in message or b'"error"' in message else line


class StdioConnection(DuplexConnection):
    """A connection over stdin and stdout to a server that the gateway starts."""

    def __init__(
        self,
        config: UpstreamConfig,
        limits: LimitsConfig,
        context: ClientContext,
        early: Child | None = None,
        deaths: int = 0,
    ) -> None:
        """`early`: a child that was already started for this connection. `deaths`: the number of handshakes in a row,
        just before this one, in which the server exited."""
        super().__init__(config, limits, context)
        self._deaths = deaths
        self._early = early
        self._child: Child | None = None
        self._lines: Lines | None = None
        self._queued = 0
        self._unread: deque[bytes | TooLong] = deque()
        """Complete lines that were not handled yet."""
        self._later: asyncio.TimerHandle | None = None
        """Handles the lines in `_unread`."""

    async def open(self, known_era: Era | None) -> ServerInfo:
        """Start the server and negotiate; see `Connection.open`.

        Some legacy servers exit on any request before `initialize`, such as the probe for the modern era. So a new
        server that exits without a message is started again as a legacy one. If that exits too, later attempts start
        it once each, alternating between without and with the probe.
        """
        try:
            return await super().open("legacy" if self._deaths % 2 else known_era)
        except DeliveryError:
            child = self._child
            if known_era is not None or self._deaths or self._heard or child is None or not child.ran:
                raise
            if child.unrunnable:
                raise
        await self.close()
        self.closed, self._ended = False, asyncio.Event()
        self.modern_possible = False
        return await super().open("legacy")

    async def _connect(self) -> None:
        # New for each child: an unfinished line of the first must not prefix the first line of the second.
        lines = self._lines = Lines(self._limits.response_body, self._context.account)
        early, self._early = self._early, None
        child = self._child = early or Child(self._config)
        child.hear(partial(self._output, lines), self._child_ended, self._patience)
        if early is None:
            await child.start()

    def _patience(self) -> float:
        now = asyncio.get_running_loop().time()
        return busy_until(self, now) - now

    @property
    def died(self) -> bool:
        return self._child is not None and self._child.died

    @property
    def last_words(self) -> str:
        return self._child.last_words if self._child is not None else ""

    @property
    def last_lines(self) -> Sequence[str]:
        return self._child.last_lines if self._child is not None else ()

    async def _transmit(self, data: bytes, pending: Pending | None = None) -> None:
        child = self._child
        if child is None:
            raise NotSent("the server was not started")
        if not child.writable.is_set():
            await self._wait_for_room(child)
        if not child.reads:
            await self._ended.wait()  # the server is about to end, and how it ends is the reason to report
        self._check_open()
        if pending is not None:
            pending.mark_sent()
        child.write(data + b"\n")

    async def _wait_for_room(self, child: Child) -> None:
        if self._queued >= MAX_QUEUED:
            raise NotSent("the server does not read its stdin: too many messages wait for it")
        self._queued += 1
        try:
            while not child.writable.is_set():  # an earlier waiter may have filled the pipe again
                await child.writable.wait()
        finally:
            self._queued -= 1

    async def _release(self) -> None:
        self._unread.clear()
        if self._lines is not None:
            self._lines.release()
        if self._later is not None:
            self._later.cancel()
        if self._child is not None:
            await self._child.stop()

    def _output(self, splitter: Lines, data: bytes) -> None:
        """Handle the lines that `data` completes: at once if they are few, else in slices."""
        lines = splitter.feed(data)
        if splitter.dropped:
            self.unexpected.noise.weigh(splitter.dropped)
        if self._later is not None or len(lines) > SLICE:
            self._unread.extend(lines)
        else:
            for line in lines:
                self._handle(line)
        if self._later is None and (self._unread or self.unexpected.noise.due):
            self._go_on()

    def _go_on(self) -> None:
        """Handle some of the lines. Nothing more is read while lines are left, or while a noisy server pauses."""
        self._later = None
        unread, noise = self._unread, self.unexpected.noise
        for _ in range(min(len(unread), SLICE)):
            self._handle(unread.popleft())
        pause = 0.0
        if noise.due:
            try:
                pause = noise.pause()
            except Noisy as noisy:
                self._lost(noisy.reason)
                return
        if self._child is None:
            return
        if pause:
            self.unexpected.slowed()
        if unread or pause:
            self._child.pause(1)
            self._later = asyncio.get_running_loop().call_later(pause, self._go_on)
        else:
            self._child.resume(1)

    def _handle(self, line: bytes | TooLong) -> None:
        try:
            if isinstance(line, TooLong):
                self._answer_too_long(line)
            else:
                self._receive(line if self._heard else without_banner(line))
        except Exception as error:  # noqa: BLE001 - one line must not fail the ones after it
            self._failed_at(error)

    def _child_ended(self, reason: str) -> None:
        """Handle the lines that the server wrote before its end: they may answer calls."""
        while self._unread and not self.closed:
            self._handle(self._unread.popleft())
        self._lost(reason)

    def _answer_too_long(self, line: TooLong) -> None:
        limit = self._limits.response_body
        if line.fits:
            self.unexpected.note("line longer than the limit", f"{limit} bytes")
        else:
            self.unexpected.note("line that does not fit into the gateway's memory", "limits.memory")
        pending = self._pending.get(line.request_id or 0)
        if pending is not None and pending.sent:
            pending.fail(UnusableAnswer(f"the server's answer is longer than {limit} bytes" if line.fits else NO_ROOM))
