"""Agents' TCP connections: how many there may be, and the sweep, once a second, that ends those that stall."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway_core.downstream import short_way
from gateway_core.downstream.answer import Answer, Heads, Refusal
from gateway_core.downstream.head import MAX_FIELD, MAX_HEADERS, Head, HeadReader
from gateway_core.downstream.long_way import LongWay
from gateway_core.downstream.serving import Serving, Streaming
from gateway_core.downstream.short_way import AgentConnection

SPARE: Final = 64
"""Connections above the limit that are kept long enough to be told so; with many allowed, as many again."""
LONG_WAY: Final = "RADIUM_LONG_WAY"
"""The environment variable that, set to 1, sends all requests the long way: to find out whose a problem is."""


class AgentServer(web.Server):
    """Makes and counts connections. A handler of the long way is cancelled when its agent disconnects."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        heads: HeadReader,
        begin: Callable[[AgentConnection, Head, bytes], Answer | Serving | Streaming | None],
        failed: Callable[[BaseException], Refusal],
        max_connections: int,
    ) -> None:
        """`handler` serves the requests of the long way, `begin` those of the short one; `failed` is told of bugs."""
        super().__init__(handler, handler_cancellation=True)
        self.short = os.environ.get(LONG_WAY) != "1"
        """Whether there is a short way at all."""
        self.heads = heads
        self.answers = Heads()
        self.begin = begin
        self._failed = failed
        self._open: set[AgentConnection | LongWay] = set()
        self._max = max_connections
        self.admitted = 0
        """Connections that count; those above the limit do not."""

    def __call__(self) -> AgentConnection:  # type: ignore[override]  # what aiohttp makes comes later
        return AgentConnection(self)

    def long_way(self, connection: AgentConnection) -> LongWay:
        """A connection for aiohttp to serve, in the place of `connection`."""
        other = LongWay(
            self,
            self.farewell,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=short_way.IDLE_TIMEOUT,
            lingering_time=2.0,
            max_headers=MAX_HEADERS,
            max_line_size=MAX_FIELD,
            max_field_size=MAX_FIELD,
            auto_decompress=False,
        )
        self._open.remove(connection)
        self._open.add(other)
        other.admitted, connection.admitted = connection.admitted, False
        other.waiting_since = connection.waiting_since
        return other

    def failed(self, error: BaseException) -> Answer:
        """What an agent gets after a bug."""
        return self._failed(error).answer()

    def welcome(self, connection: AgentConnection) -> bool:
        """Take a new connection in; False when there are so many that it cannot even be told why not."""
        self._open.add(connection)
        self.admit(connection)
        return len(self._open) <= self._max + max(self._max * 3, SPARE)

    def admit(self, connection: AgentConnection | LongWay) -> bool:
        """Whether this connection may be served, now that it asks; one above the limit gets in when there is room."""
        if not connection.admitted and self.admitted < self._max:
            connection.admitted = True
            self.admitted += 1
        return connection.admitted

    def farewell(self, connection: AgentConnection | LongWay) -> None:
        self._open.discard(connection)
        if connection.admitted:
            connection.admitted = False
            self.admitted -= 1

    def sweep(self) -> None:
        """End the connections that stall, and tell the others the time from now on; called about once a second."""
        self.answers.refresh()
        now = time.monotonic()
        for connection in list(self._open):
            connection.sweep(now)

    def pre_shutdown(self) -> None:
        """Hang up where nothing is being served."""
        super().pre_shutdown()
        for connection in self._short_ones():
            if not connection.busy:
                connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Hang up everywhere, after `timeout` seconds where something is still being served."""
        busy = [task for connection in self._short_ones() for task in connection.tasks()]
        if busy:
            await asyncio.wait(busy, timeout=timeout)
            await asyncio.sleep(0)  # for the callbacks that write the answers
        for connection in self._short_ones():
            if connection.busy:
                connection.abort()
            else:
                connection.close()
        await super().shutdown(timeout)

    def _short_ones(self) -> list[AgentConnection]:
        return [connection for connection in self._open if isinstance(connection, AgentConnection)]
